// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/json"
	"path"
	"strings"
)

// Before there were manifests each layer was an image, with a JSON text that names its
// parent, by IDs that newer engines compute when they save: the digest of that text
// without the ID, and with the chain ID of the layers up to it as "layer_id". Docker
// leaves out "os" of all but the topmost and names the parent by its digest; podman and
// skopeo keep "os" and name it by its ID.
//
// An ID that is none of these can't be computed anew, and stays: nothing but a Docker
// before 1.10 looks at it.

// legacyImage is such a text.
type legacyImage struct {
	member     *imageFile
	fields     map[string]json.RawMessage
	id, parent string
}

// legacyRule is one way to compute an ID.
type legacyRule struct{ os, parentDigest bool }

var legacyRules = []legacyRule{{os: false, parentDigest: true}, {os: true, parentDigest: true}, {os: true, parentDigest: false}}

// computed is the ID of a legacy image under a rule.
func (l *legacyImage) computed(rule legacyRule, chain digest, parent string) string {
	fields := map[string]any{"layer_id": chain}
	for name, raw := range l.fields {
		switch name {
		case "id", "parent":
			continue
		case "os":
			if !rule.os {
				continue
			}
		}
		fields[name] = raw
	}
	if parent != "" {
		if fields["parent"] = parent; rule.parentDigest {
			fields["parent"] = sha256Name + ":" + parent
		}
	}
	text, err := json.Marshal(fields) // as the engines do: sorted, and escaped for HTML
	if err != nil {
		return ""
	}
	sum := digesterLike("")
	sum.Write(text)
	return sum.digest().hex()
}

// chainIDs is the chain IDs of diff IDs, from the lowest layer up (OCI image specification,
// config.md, "Layer ChainID").
func chainIDs(diffs []digest) []digest {
	var out []digest
	for i, diff := range diffs {
		if i > 0 {
			sum := digesterLike("")
			sum.Write([]byte(string(out[i-1]) + " " + string(diff)))
			diff = sum.digest()
		}
		out = append(out, diff)
	}
	return out
}

// legacy computes the IDs of legacy images anew, of which each is its parent's.
func (c *imageConverter) legacy(images []dockerImage) error {
	children, err := c.legacyImages()
	if err != nil {
		return err
	}
	for _, image := range images {
		var before, after []digest
		for _, diff := range image.config.diffs {
			changed, ok := c.known[diff.old]
			if !ok {
				changed = diff.old
			}
			before, after = append(before, diff.old), append(after, changed)
		}
		before, after = chainIDs(before), chainIDs(after)
		parents := []string{""}
		for i := range before {
			var next []string
			for _, parent := range parents {
				for _, l := range children[parent] {
					rule, ok := l.rule(before[i])
					if !ok {
						continue
					}
					next = append(next, l.id)
					c.renamed[l.id] = l.computed(rule, after[i], c.renamed[parent])
					if err := c.rewriteLegacy(l); err != nil {
						return err
					}
				}
			}
			parents = next
		}
	}
	return nil
}

// rule is how the ID was computed, if it was.
func (l *legacyImage) rule(chain digest) (legacyRule, bool) {
	for _, rule := range legacyRules {
		if l.computed(rule, chain, l.parent) == l.id {
			return rule, true
		}
	}
	return legacyRule{}, false
}

// legacyImages is the legacy images by their parent's ID: ID/json, and in the new form of
// an archive blobs that nothing names.
func (c *imageConverter) legacyImages() (map[string][]*legacyImage, error) {
	children := map[string][]*legacyImage{}
	var total int64
	for _, m := range c.source.members {
		dir, base := path.Split(m.name)
		stored, isBlob := blobDigest(m.name)
		named := base == "json" && isHex(strings.TrimSuffix(dir, "/"), 64)
		if !m.regular() || m.header.Size > maxJSON || !named && (!isBlob || len(c.placed[m]) > 0) {
			continue
		}
		raw, err := c.read(m, stored)
		if err != nil {
			return nil, err
		}
		l := &legacyImage{member: m}
		if json.Unmarshal(raw, &l.fields) != nil || l.fields == nil {
			continue
		}
		_ = json.Unmarshal(l.fields["id"], &l.id)
		_ = json.Unmarshal(l.fields["parent"], &l.parent)
		if isHex(l.id, 64) {
			if total += m.header.Size; total > maxLegacy {
				return nil, fileError(m.name, "expected texts of layers of at most %d bytes together", maxLegacy)
			}
			children[l.parent] = append(children[l.parent], l)
		}
	}
	return children, nil
}

// rewriteLegacy gives a legacy image its new ID, and its parent's.
func (c *imageConverter) rewriteLegacy(l *legacyImage) error {
	stored, _ := blobDigest(l.member.name)
	_, err := c.rewrite(l.member, "a legacy image", stored, func(raw []byte) (*jsonText, error) {
		doc, top, err := parseJSONText(l.member.name, raw, '{')
		if err != nil {
			return nil, err
		}
		for _, field := range []string{"id", "parent"} {
			at, ok, err := top.get(field)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			before, err := at.string()
			if err != nil {
				return nil, err
			}
			if after := c.renamed[before]; after != before {
				if err := at.put(after); err != nil {
					return nil, err
				}
			}
		}
		return doc, nil
	})
	return err
}
