// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"strings"
	"testing"
	"time"
)

func TestParsePax(t *testing.T) {
	for _, tc := range []struct{ data, want string }{
		{"", ""},
		{"7 a=bc\n", "a=bc|"},
		{"5 c=\n8 d=e=f\n", "c=|d=e=f|"},
		{"9 k=a\nb\x00\n", "k=a\nb\x00|"},
		{"008 a=b\n", "a=b|"}, // zeros before a length
	} {
		records, err := parsePax([]byte(tc.data), nil)
		got := ""
		for _, r := range records {
			got += r.key + "=" + string(r.value) + "|"
		}
		if err != nil || got != tc.want {
			t.Errorf("%q: %q, %v: expected %q", tc.data, got, err, tc.want)
		}
	}
	for data, want := range map[string]string{
		"7 a=bcd":              "ends with 'd': expected a newline",
		"8 a=bc\n":             `its length is "8"`,
		"4 a=\n":               `its length is "4"`,
		"0 a=b\n":              `its length is "0"`,
		"-6 a=b\n":             `its length is "-6"`,
		"a=b\n":                "expected LENGTH",
		"99999999 a=b\n":       "expected LENGTH",
		"6 =bc\n":              "expected KEY=VALUE",
		"6 abc\n":              "expected KEY=VALUE",
		"8 a\x00b=c\n":         "a NUL in its key",
		"6 a=b\n\x00\x00":      "expected LENGTH",
		strings.Repeat("x", 5): "expected LENGTH",
	} {
		_, err := parsePax([]byte(data), nil)
		wantError(t, err, want)
	}
}

// TestMakeRecord has records around lengths that get one digit more.
func TestMakeRecord(t *testing.T) {
	for n := range 2000 {
		want := strings.Repeat("v", n)
		r := makeRecord("k", []byte(want))
		records, err := parsePax(r.raw, nil)
		if err != nil || len(records) != 1 || records[0].key != "k" || string(records[0].value) != want || string(r.value) != want {
			t.Fatalf("a value of %d bytes: %d records, %v", n, len(records), err)
		}
	}
}

func TestPaxID(t *testing.T) {
	for value, want := range map[string]string{
		"": "is empty", "-1": "a negative number", "4294967295": "expected an ID from 0 to 4294967294", "4294967296": "32 bits",
		"1.5": "decimal", " 1": "decimal", "1 ": "decimal", "0x1": "decimal", "1_0": "decimal", "+1": "decimal",
	} {
		_, err := parsePaxID(makeRecord(keyUID, []byte(value)))
		wantError(t, err, want)
	}
	for value, want := range map[string]uint32{"0": 0, "007": 7, "4294967294": 4294967294} {
		if got, err := parsePaxID(makeRecord(keyUID, []byte(value))); err != nil || got != want {
			t.Errorf("%q: %d, %v: expected %d", value, got, err, want)
		}
	}
}

func TestPaxTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"0":                      time.Unix(0, 0),
		"1":                      time.Unix(1, 0),
		"1.5":                    time.Unix(1, 5e8),
		"1.123456789":            time.Unix(1, 123456789),
		"-1":                     time.Unix(-1, 0),
		"-1.5":                   time.Unix(-2, 5e8),
		"-0.000000001":           time.Unix(-1, 999999999),
		"253402300800.000000001": time.Unix(253402300800, 1),
		"-62135596801.999999999": time.Unix(-62135596802, 1),
	} {
		got, err := parsePaxTime(record{key: keyMTime, value: []byte(text)})
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v: expected %v", text, got, err, want)
		}
		if back := paxTime(want); back != text {
			t.Errorf("%v is %q: expected %q", want, back, text)
		}
	}
	for text, want := range map[string]time.Time{
		"1.1234567899":  time.Unix(1, 123456789),
		"-1.1234567891": time.Unix(-2, 876543210),
		"-.5":           time.Unix(-1, 5e8),
		"1.":            time.Unix(1, 0),
	} {
		if got, err := parsePaxTime(record{key: keyMTime, value: []byte(text)}); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v: expected %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1.x", "1.-5", "1e5", ".5", "99999999999999999999", "1152921504606846976"} {
		_, err := parsePaxTime(record{key: keyMTime, value: []byte(text)})
		wantError(t, err, keyMTime)
	}
}
