// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ErrNoAccount is wrapped by the error for an owner who has no account in /etc/passwd.
var ErrNoAccount = errors.New("has no account in /etc/passwd")

// AccountOf finds the account that an owner of the book is. Digits alone are a UID, whatever somebody's
// login name is (usernamespaces(5)); all else is a login name. Directory services (NSS) are not asked.
func AccountOf(owner string) (account user.User, err error) {
	if id, numberErr := idmap.ParseID(owner); numberErr == nil {
		account, err = user.LookupUid(int(id))
	} else {
		account, err = user.LookupUser(owner)
	}
	if errors.Is(err, user.ErrNoPasswdEntries) || errors.Is(err, fs.ErrNotExist) {
		return user.User{}, fmt.Errorf("%s %w", owner, ErrNoAccount)
	}
	return account, err
}

// OwnerNames is what the book may call an account: its login name, but for one of digits, which would
// be somebody else's UID, and the UID. The first is used in messages.
func OwnerNames(account user.User) (names []string) {
	if strings.Trim(account.Name, "0123456789") != "" {
		names = append(names, account.Name)
	}
	return append(names, strconv.Itoa(account.Uid))
}
