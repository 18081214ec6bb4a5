// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseOverlay(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want overlayOptions
	}{
		"as Docker mounts it": {
			"rw,lowerdir=/d/l/B:/d/l/A,upperdir=/d/x/diff,workdir=/d/x/work,index=off,nfs_export=off",
			overlayOptions{lower: []string{"/d/l/B", "/d/l/A"}, upper: "/d/x/diff"},
		},
		"as containers/storage does": {
			"rw,lowerdir=/g/l/A,upperdir=/g/x/diff,workdir=/g/x/work,uuid=on,metacopy=on,fsync=volatile",
			overlayOptions{lower: []string{"/g/l/A"}, upper: "/g/x/diff", kept: []overlayOption{{"metacopy", "on", false}, {"fsync", "volatile", false}}},
		},
		"relative and nothing to write to": {
			"ro,lowerdir=2/fs:1/fs", overlayOptions{lower: []string{"2/fs", "1/fs"}, readOnly: true},
		},
		"one option for each layer": {
			`rw,lowerdir+=/a:b,lowerdir+=/c,datadir+=/d,userxattr`,
			overlayOptions{lower: []string{"/a:b", "/c"}, data: []string{"/d"}, kept: []overlayOption{{"userxattr", "", true}}},
		},
		"layers of data": {
			"rw,lowerdir=/a:/b::/c::/d,redirect_dir=on",
			overlayOptions{lower: []string{"/a", "/b"}, data: []string{"/c", "/d"}, kept: []overlayOption{{"redirect_dir", "on", false}}},
		},
		"escaped by the mounter, and by the kernel": {
			`rw,lowerdir=/a\134:b:/with\040space:/com\054ma:/back\134\134slash,upperdir=/up\054per`,
			overlayOptions{lower: []string{"/a:b", "/with space", "/com,ma", `/back\slash`}, upper: "/up,per"},
		},
		"a label with commas": {
			`rw,context="system_u:object_r:container_file_t:s0:c1,c2",lowerdir=/a:/b,xino=off`,
			overlayOptions{lower: []string{"/a", "/b"}, kept: []overlayOption{{"context", "system_u:object_r:container_file_t:s0:c1,c2", false}, {"xino", "off", false}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseOverlay(tc.text)
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v %v\nwant %+v", got, err, tc.want)
			}
		})
	}
	for text, want := range map[string]string{
		"rw,lowerdir=/a,casefold=strict": `"casefold=strict" isn't known`,
		"rw,upperdir=/a":                 "no layer",
		"":                               "no layer",
	} {
		if got, err := parseOverlay(text); err == nil || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(got, overlayOptions{}) {
			t.Errorf("%q: got %+v %v", text, got, err)
		}
	}
}

func TestVolatile(t *testing.T) {
	for text, want := range map[string]bool{
		"lowerdir=/a,volatile": true, "lowerdir=/a,fsync=volatile": true, "lowerdir=/a,fsync=strict": false, "lowerdir=/volatile": false,
	} {
		o, err := parseOverlay(text)
		if err != nil || o.volatile() != want {
			t.Errorf("%s: got %v %v", text, o.volatile(), err)
		}
	}
}

// What is split again is what was joined.
func FuzzLayers(f *testing.F) {
	f.Add("/a", `/b:c\d`, "/data")
	f.Fuzz(func(t *testing.T, a, b, data string) {
		if a == "" || b == "" || data == "" {
			t.Skip("a layer has a name")
		}
		lower, datas := splitLayers(joinLayers([]string{a, b}, []string{data}))
		if !slices.Equal(lower, []string{a, b}) || !slices.Equal(datas, []string{data}) {
			t.Errorf("got %q %q", lower, datas)
		}
	})
}

func FuzzParseOverlay(f *testing.F) {
	f.Add(`rw,lowerdir=/a\072b::/c,context="x,y",xino=on`)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOverlay(text)
		if err == nil && len(o.lower) == 0 {
			t.Error("no layers, and no error")
		}
	})
}

func TestMountAttrs(t *testing.T) {
	if got := mountFlags(mountAttrs("rw,relatime")); got != 0 {
		t.Errorf("flags out of nothing: %#x", got)
	}
	if mountAttrs("rw") == mountAttrs("rw,relatime") {
		t.Error("strictatime, which isn't said, is lost")
	}
	for _, n := range attrNames {
		if mountFlags(mountAttrs("relatime,"+n.name))&n.flag == 0 {
			t.Errorf("%s is lost", n.name)
		}
	}
}
