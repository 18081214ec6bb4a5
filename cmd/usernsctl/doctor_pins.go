// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// pinUnit is the unit of systemd that makes the configuration's pins at boot.
const pinUnit = "userns-pins.service"

// checkPins is whether the pins are in place, and will be after the next boot.
func (h *host) checkPins() {
	const subject = "pins"
	if len(h.config.Pins) > 0 {
		h.checkPinUnit()
	}
	if h.book == nil {
		return // which is a finding of its own
	}
	if !h.asRoot(subject, "whether they are in place") {
		return
	}
	pins, err := h.try.pins(h.book, h.config.Pins)
	if err != nil {
		h.failed(subject, err)
		return
	}
	sound := 0
	for _, pin := range pins {
		switch pin.State {
		case pinFine:
			sound++
		case pinMissing:
			h.add(sevWarning, pin.Path, command("pin", "--"+flagAll), "isn't there, and the configuration has a [[pin]] for it: %s", pin.Problem)
		case pinLeft:
			h.add(sevWarning, pin.Path, command("leases"), "is no pin any more, and its IDs are held: %s", pin.Problem)
		default:
			h.add(sevWarning, pin.Path, command("pin", pin.Owner+"/"+pin.Name), "nobody should enter it, and it is refused: %s", pin.Problem)
		}
	}
	if sound == len(pins) {
		h.fine(subject, "%s in place", plural(sound, "pin"))
	}
}

// checkPinUnit is whether the pins are made at boot, where systemd is in charge of that.
func (h *host) checkPinUnit() {
	if _, err := os.Lstat(h.path("/run/systemd/system")); err != nil {
		return // sd_booted(3)
	}
	enabled, err := filepath.Glob(h.path("/etc/systemd/system/*.wants/" + pinUnit))
	if err == nil && len(enabled) == 0 {
		h.add(sevWarning, pinUnit, "systemctl enable --now "+pinUnit, "isn't enabled, so that the configuration's [[pin]] aren't made at boot")
		return
	}
	h.fine(pinUnit, "is enabled")
}

// lookAtPins judges all pins of the host.
func lookAtPins(book *registry.Book, wanted []config.Pin) ([]pinJSON, error) {
	w, err := newPinning(book)
	if err != nil {
		return nil, err
	}
	return w.list(wanted)
}

// pinFindings is the pins that are refused where they are used, and those that the configuration
// wants and that aren't there. Whoever is in one that isn't mounted any more is the census' to find.
func (p *program) pinFindings(book *registry.Book) []registry.Conflict {
	cfg, err := config.Load(config.Path)
	if err != nil {
		p.warn("audit: which [[pin]] there should be isn't known: %s", err)
		cfg = config.Default()
	}
	pins, err := lookAtPins(book, cfg.Pins)
	if err != nil {
		return []registry.Conflict{{Severity: registry.Error, Where: "pins", Message: "pins: can't be looked at: " + err.Error()}}
	}
	var found []registry.Conflict
	for _, pin := range pins {
		at := slices.Index([]string{pinMissing, pinWrong}, pin.State)
		if at < 0 {
			continue
		}
		f := registry.Conflict{Severity: []registry.Severity{registry.Warning, registry.Error}[at], Where: pin.Path, Message: pin.Problem}
		if ids := pin.ids.Ranges(); len(ids) > 0 {
			f.Range = ids[0]
		}
		found = append(found, f)
	}
	return found
}
