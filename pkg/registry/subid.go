// SPDX-License-Identifier: Apache-2.0

package registry

// Restricting is those of the flags that take privilege away, as the book spells them; ""
// is that none does. Who hands out the IDs of a line by other means than this runtime, such
// as /etc/subuid, hands them out without these. A flag that isn't known here as one
// that doesn't restrict is taken for one that does.
func (f Flags) Restricting() string {
	f.Reserved, f.Owned, f.Shared, f.IdmapBinds, f.Size = false, false, false, false, 0
	return f.String()
}
