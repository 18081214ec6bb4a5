// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
)

// utilityLease is what `usernsctl leases --json` says of an entry.
type utilityLease struct {
	Ranges []struct {
		Start uint64 `json:"start"`
		Count uint64 `json:"count"`
	} `json:"ranges"`
	Container string `json:"container"`
	Root      string `json:"root"`
	State     string `json:"state"`
	Rebuilt   bool   `json:"rebuilt"`
}

// askUtility has root's tool, if it lies beside userns-runtime, say who holds what, and
// judges that as [world.lookAtLeases] does.
func (w *world) askUtility() {
	path := filepath.Join(filepath.Dir(w.ours), "usernsctl")
	if !exists(path) {
		return
	}
	text, err := exec.Command(path, "leases", "--json").Output()
	var all []utilityLease
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		w.problem("usernsctl leases --json: %v: %s", err, text)
		return
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.State == "ended" || b.State == "ended" || a.Rebuilt || b.Rebuilt {
				continue
			}
			if ids, shared := overlap(a.ids(), b.ids()); shared {
				w.problem("usernsctl leases: [%d-%d) are held twice: %+v and %+v", ids.start, ids.end, a, b)
			}
		}
	}
}

func (l utilityLease) ids() (out []extent) {
	for _, r := range l.Ranges {
		out = append(out, extent{r.Start, r.Start + r.Count})
	}
	return out
}
