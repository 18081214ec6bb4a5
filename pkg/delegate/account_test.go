// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"slices"
	"testing"

	"github.com/moby/sys/user"
)

func TestAccountOf(t *testing.T) {
	for _, owner := range []string{"root", "0"} {
		if account, err := AccountOf(owner); err != nil || account.Name != "root" || account.Uid != 0 {
			t.Errorf("%s: %+v, %v", owner, account, err)
		}
	}
	for _, owner := range []string{"no-such-user", "4294967294", "00", ""} {
		if account, err := AccountOf(owner); !errors.Is(err, ErrNoAccount) {
			t.Errorf("%q: %+v, %v", owner, account, err)
		}
	}
}

// A login of digits is somebody else's UID in the book.
func TestOwnerNames(t *testing.T) {
	for _, tc := range []struct {
		account user.User
		want    []string
	}{
		{user.User{Name: "ann", Uid: 1000}, []string{"ann", "1000"}},
		{user.User{Name: "1001", Uid: 1000}, []string{"1000"}},
		{user.User{Name: "1000", Uid: 1000}, []string{"1000"}},
		{user.User{Name: "1a", Uid: 1000}, []string{"1a", "1000"}},
		{user.User{Name: "", Uid: 1000}, []string{"1000"}},
	} {
		if got := OwnerNames(tc.account); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %q, want %q", tc.account, got, tc.want)
		}
	}
}
