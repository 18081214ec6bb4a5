// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCheckHostDevices(t *testing.T) {
	rules := func(text string) (d HostDevices) {
		if err := json.Unmarshal([]byte(text), &d.Rules); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, tc := range map[string]struct {
		devices HostDevices
		want    string
	}{
		"none": {HostDevices{}, ""},
		// What Docker 20.10 and containerd 1.6 send for every container.
		"docker": {rules(`[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
			{"allow":true,"type":"c","major":1,"minor":9,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":8,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"},
			{"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]`), ""},
		"ctr":             {rules(`[{"allow":true,"type":"c","major":1,"minor":7,"access":"rwm"},{"allow":true,"type":"c","major":136,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":2,"access":"rwm"}]`), ""},
		"--privileged":    {rules(`[{"allow":true,"access":"rwm"}]`), "linux.resources.devices[0]: allows a *:* rwm"},
		"a fuse":          {rules(`[{"allow":true,"type":"c","major":10,"minor":229,"access":"r"}]`), "allows c 10:229 r"},
		"any of a number": {rules(`[{"allow":true,"type":"c","major":1,"access":"r"}]`), "allows c 1:* r"},
		"any, as -1":      {rules(`[{"allow":true,"type":"c","major":1,"minor":-1,"access":"r"}]`), "allows c 1:* r"},
		"a block device":  {rules(`[{"allow":true,"type":"b","major":1,"minor":3,"access":"r"}]`), "allows b 1:3 r"},
		"only made":       {rules(`[{"allow":true,"type":"b","access":"m"}]`), ""},
		"made and read":   {rules(`[{"allow":true,"type":"b","access":"mr"}]`), "allows b *:* mr"},
		"no access":       {rules(`[{"allow":true,"type":"b","access":""}]`), "allows b *:* "},
		"a node":          {HostDevices{Nodes: []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}}, "linux.devices[1]: /dev/fuse"},
		"another null":    {HostDevices{Nodes: []specs.LinuxDevice{{Path: "/dev/null", Type: "b", Major: 8}}}, "linux.devices[0]: /dev/null"},
		"an interface":    {HostDevices{Networks: []string{"eth0"}}, "linux.netDevices: eth0"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, CheckHostDevices(tc.devices), tc.want) })
	}
}
