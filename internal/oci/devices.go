// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HostDevices is what config.json says of devices beside linux.devices, read once more as runc reads it: the rules of
// linux.resources.devices, and the names in linux.netDevices. They aren't in Spec, since few grants ask.
func (b *Bundle) HostDevices() (rules []specs.LinuxDeviceCgroup, networks []string, err error) {
	var members struct {
		Linux struct {
			Resources struct {
				Devices []specs.LinuxDeviceCgroup `json:"devices"`
			} `json:"resources"`
			NetDevices map[string]json.RawMessage `json:"netDevices"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(b.Raw, &members); err != nil {
		return nil, nil, fmt.Errorf("%s: it isn't an OCI runtime specification: %w", filepath.Join(b.Dir, ConfigName), err)
	}
	return members.Linux.Resources.Devices, slices.Sorted(maps.Keys(members.Linux.NetDevices)), nil
}
