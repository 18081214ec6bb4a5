// SPDX-License-Identifier: Apache-2.0

package layer

import "strings"

// markerText begins the comment by which the filter knows the records that it added
// itself, so that the way back takes them away. Readers ignore comments
// (POSIX.1-2017, pax, "pax Extended Header Keywords").
const markerText = "userns-runtime added "

// marker is the comment for added records of those keys.
func marker(keys ...string) record {
	return makeRecord(keyComment, []byte(markerText+strings.Join(keys, ",")))
}

// parseMarker is the keys of records that were added, if the record is such a comment.
func parseMarker(r record) (keys []string, ok bool) {
	if r.key != keyComment {
		return nil, false
	}
	switch list, ok := strings.CutPrefix(string(r.value), markerText); {
	case !ok:
		return nil, false
	case list == keyUID, list == keyGID, list == keyUID+","+keyGID:
		return strings.Split(list, ","), true
	}
	return nil, false
}
