// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// What a [Difference] says of a name that one side hasn't.
const (
	OnlyInA = "only in A"
	OnlyInB = "only in B"
)

// tell reads a once more, and says what differs.
func (v *verifier) tell(path string) (told []Difference, err error) {
	named := make(map[key]*suspect)   // whose name is looked for
	files := make(map[key][]*suspect) // whose file is, by the name that a has its data at
	for name, s := range v.suspects {
		switch {
		case s.onlyB:
			told = append(told, Difference{Name: shown(s.name), What: OnlyInB})
			continue
		case s.onlyA || s.links:
			named[name] = s
		}
		if s.entry != nil {
			root := v.a.root(name)
			files[root] = append(files[root], s)
		}
	}
	err = v.each(path, func(e *Entry, name string, data io.Reader) error {
		id := v.name(name)
		if s := named[id]; s != nil {
			delete(named, id)
			told = append(told, v.byName(id, name, s))
		}
		if e.Type == TypeLink || files[id] == nil {
			return nil
		}
		content, err := v.content(e, data)
		if err != nil {
			return inEntry(e.Name, err)
		}
		if len(files[id]) == 1 { // b may have its data at another of its names
			files[id][0].name = name
		}
		for _, s := range files[id] {
			told = append(told, v.explain(e, content[:], s)...)
		}
		delete(files, id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, all := range files { // a hard link of a's to what isn't there
		for _, s := range all {
			told = append(told, Difference{shown(s.name), "link", "a hard link to what isn't there", "there"})
		}
	}
	if len(named) > 0 {
		return nil, errors.New("what was compared has changed meanwhile: expected both to be at rest")
	}
	slices.SortStableFunc(told, func(a, b Difference) int { return cmp.Compare(a.Name, b.Name) })
	names := 0
	for i, d := range told {
		if i == 0 || d.Name != told[i-1].Name {
			names++
		}
		if names > v.Most {
			return told[:i], nil
		}
	}
	return told, nil
}

// byName is a difference that a name alone tells.
func (v *verifier) byName(id key, name string, s *suspect) Difference {
	if s.onlyA {
		return Difference{Name: shown(name), What: OnlyInA}
	}
	a, b := v.groupsA.count(id), v.groupsB.count(id)
	d := Difference{shown(name), "hard links", oneOf(a, "names"), oneOf(b, "names")}
	if a == b {
		d.B = oneOf(b, "others")
	}
	return d
}

func oneOf(n int, what string) string {
	if n == 1 {
		return "its only name"
	}
	return fmt.Sprintf("one of %d %s", n, what)
}

func shown(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// explain compares an entry of a with what is remembered of b.
func (v *verifier) explain(e *Entry, content []byte, s *suspect) (told []Difference) {
	add := func(what, a, b string) {
		if a != b {
			told = append(told, Difference{shown(s.name), what, a, b})
		}
	}
	if s.mask == 0 {
		for _, f := range coreFacts {
			add(f.name, f.of(e), f.of(s.entry))
		}
		add("content", fmt.Sprintf("%x", content), fmt.Sprintf("%x", s.content))
	}
	for i, f := range optFacts {
		if v.a.has[i] && v.b.has[i] {
			add(f.name, f.of(e), f.of(s.entry))
		}
	}
	return told
}
