// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
)

// maxProblems is how many reasons one error spells out. Nobody reads more, and
// a file that isn't a book at all could otherwise give a million.
const maxProblems = 1000

// problems collects every reason for one refusal, in the order they are found.
type problems struct {
	errs []error
	more int
}

func (p *problems) add(errs ...error) {
	for _, err := range errs {
		if len(p.errs) < maxProblems {
			p.errs = append(p.errs, err)
		} else {
			p.more++
		}
	}
}

func (p *problems) join() error {
	if p.more > 0 {
		return errors.Join(append(p.errs, fmt.Errorf("and %d more: mend these first", p.more))...)
	}
	return errors.Join(p.errs...)
}
