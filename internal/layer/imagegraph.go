// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// Media types (OCI image specification, media-types.md; Docker's image manifest v2,
// schema 2). What isn't among them is passed on, unless it begins as a layer's does.
const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociEmpty    = "application/vnd.oci.empty.v1+json"

	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+" // json, prettyjws
)

// layerTypes is the media types of layers that can be shifted. How one is compressed is
// seen in its bytes.
var layerTypes = map[string]bool{
	"application/vnd.oci.image.layer.v1.tar":            true,
	"application/vnd.oci.image.layer.v1.tar+gzip":       true,
	"application/vnd.oci.image.layer.v1.tar+zstd":       true,
	"application/vnd.docker.image.rootfs.diff.tar":      true,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": true,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": true,
}

// layerFamilies is how media types of layers begin.
var layerFamilies = []string{"application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."}

// isLayer says whether a media type is that of a layer, and refuses those that can't be
// shifted.
func isLayer(mediaType string) (bool, error) {
	if layerTypes[mediaType] {
		return true, nil
	}
	for _, family := range layerFamilies {
		rest, ok := strings.CutPrefix(mediaType, family)
		switch {
		case !ok:
		case strings.Contains(rest, "encrypted"):
			return false, fmt.Errorf("%s: an encrypted layer can't be shifted: decrypt the image first", mediaType)
		case strings.HasPrefix(rest, "nondistributable."), strings.HasPrefix(rest, "foreign."):
			return false, fmt.Errorf("%s: a layer that has to be fetched from where it is kept can't be shifted: expected an image that brings all its layers", mediaType)
		default:
			return false, fmt.Errorf("%s: a layer of this kind can't be shifted: expected a tar, plain or compressed by gzip or zstd", mediaType)
		}
	}
	return false, nil
}

// descriptor names content (OCI image specification, descriptor.md).
type descriptor struct {
	jsonValue
	mediaType string
	digest    digest
	size      int64
}

func descriptorAt(p jsonValue) (descriptor, error) {
	d := descriptor{jsonValue: p}
	var err error
	if d.mediaType, err = p.text("mediaType"); err != nil {
		return d, err
	}
	if d.mediaType == "" {
		return d, p.fail("has no mediaType: expected a descriptor")
	}
	name, err := p.text("digest")
	if err != nil {
		return d, err
	}
	if d.digest, err = parseDigest(name); err != nil {
		return d, p.fail("digest %w", err)
	}
	size, ok, err := p.get("size")
	if err != nil {
		return d, err
	}
	if !ok {
		return d, p.fail("has no size: expected a descriptor")
	}
	d.size, err = size.size()
	return d, err
}

// descriptorIn is a member of an object that is a descriptor.
func descriptorIn(p jsonValue, name string) (d descriptor, ok bool, err error) {
	at, ok, err := p.get(name)
	if err != nil || !ok {
		return descriptor{}, false, err
	}
	d, err = descriptorAt(at)
	return d, true, err
}

// find is the file of a descriptor.
func (c *imageConverter) find(d descriptor) (*imageFile, error) {
	m, err := c.source.file(d.digest.path())
	if err != nil {
		return nil, d.fail("%w", err)
	}
	if m.header.Size != d.size {
		return nil, d.fail("says that %s has %d bytes, and it has %d: it was changed, or damaged", m.name, d.size, m.header.Size)
	}
	return m, nil
}

// point makes a descriptor that of what its content has become.
func (c *imageConverter) point(d descriptor, b *blob) error {
	if b.new == d.digest {
		return nil
	}
	items, err := d.object()
	if err != nil {
		return err
	}
	for _, it := range items {
		switch it.name {
		case "digest":
			err = it.value.put(b.new)
		case "size":
			err = it.value.put(b.size)
		case "data": // the content itself
			if b.size > maxJSON {
				return d.fail("has the content as data: expected at most %d bytes of it", maxJSON)
			}
			var raw []byte
			if raw, err = io.ReadAll(c.kept.section(b.content)); err == nil {
				err = it.value.put(base64.StdEncoding.EncodeToString(raw))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Annotations about the bytes of a compressed layer, which aren't true of another: the
// tables of contents of eStargz and of zstd:chunked. A layer without them is read as any.
var aboutBytes = []string{"containerd.io/snapshot/stargz/", "io.containers.estargz.", "io.github.containers.zstd-chunked."}

// annotate has the annotations of an object name by its new digest what they name by its
// old one, as attestations name their image. Of a layer that has changed those are taken
// out that aren't true any more.
func (c *imageConverter) annotate(p jsonValue, changedLayer bool) error {
	at, ok, err := p.get("annotations")
	if err != nil || !ok {
		return err
	}
	items, err := at.object()
	if err != nil {
		return err
	}
	stale := func(name string) bool {
		for _, prefix := range aboutBytes {
			if changedLayer && strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	for _, it := range items {
		if stale(it.name) {
			at.without(items, stale)
			return nil
		}
	}
	for _, it := range items {
		value, err := it.value.string()
		if err != nil {
			return err
		}
		if after, ok := c.known[digest(value)]; ok {
			if err := it.value.put(after); err != nil {
				return err
			}
		}
	}
	return nil
}

// layout converts an OCI image layout.
func (c *imageConverter) layout() error {
	m, err := c.source.file(layoutFile)
	if err != nil {
		return err
	}
	raw, err := c.read(m, "")
	if err != nil {
		return err
	}
	_, top, err := parseJSONText(m.name, raw, '{')
	if err != nil {
		return err
	}
	version, err := top.text("imageLayoutVersion")
	if err == nil && version != "1.0.0" {
		err = top.fail("imageLayoutVersion is %q: expected \"1.0.0\"", version)
	}
	if err != nil {
		return err
	}
	if m, err = c.source.file(indexFile); err != nil {
		return err
	}
	_, err = c.index(m, "", "", 1)
	return err
}

// graph converts what a descriptor in an index, or one that is a subject, leads to.
func (c *imageConverter) graph(d descriptor, depth int) (*blob, error) {
	if strings.HasPrefix(d.mediaType, dockerSchema1) {
		return nil, d.fail("%s: an image of Docker's first form can't be shifted: pull and save it again by a newer Docker", d.mediaType)
	}
	m, err := c.find(d)
	if err != nil {
		return nil, err
	}
	switch d.mediaType {
	case ociIndex, dockerIndex:
		if depth == maxIndexes {
			return nil, d.fail("expected at most %d indexes inside of each other", maxIndexes)
		}
		return c.index(m, d.digest, d.mediaType, depth+1)
	case ociManifest, dockerManifest:
		return c.manifest(m, d, depth)
	}
	if layer, err := isLayer(d.mediaType); layer || err != nil {
		return nil, d.fail("%s: a layer without a manifest can't be shifted", d.mediaType)
	}
	if err := c.keep(m, d.digest); err != nil {
		return nil, err
	}
	return &blob{old: d.digest, new: d.digest, size: d.size, content: blobContent{from: m, size: d.size}}, nil
}

// is refuses a text that could be taken for something else than its descriptor says: by
// its own mediaType, or by a member that the other kind has (CVE-2021-41190).
func (p jsonValue) is(mediaType string, foreign ...string) error {
	own, err := p.text("mediaType")
	if err != nil {
		return err
	}
	if own != "" && mediaType != "" && own != mediaType {
		return p.fail("mediaType is %q: expected %q, as it is named: readers differ in which one counts", own, mediaType)
	}
	for _, name := range foreign {
		if _, ok, err := p.get(name); ok || err != nil {
			return p.fail("has %q as well: readers differ in what it is", name)
		}
	}
	return nil
}

// index converts an index and all that it leads to.
func (c *imageConverter) index(m *imageFile, stored digest, mediaType string, depth int) (*blob, error) {
	return c.rewrite(m, "an index", stored, func(raw []byte) (*jsonText, error) {
		doc, top, err := parseJSONText(m.name, raw, '{')
		if err != nil {
			return nil, err
		}
		if err := top.is(mediaType, "layers", "config", "fsLayers"); err != nil {
			return nil, err
		}
		list, ok, err := top.get("manifests")
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, top.fail("has no manifests: expected an index")
		}
		entries, err := list.array()
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			d, err := descriptorAt(entry)
			if err != nil {
				return nil, err
			}
			b, err := c.graph(d, depth)
			if err != nil {
				return nil, err
			}
			if err := c.point(d, b); err != nil {
				return nil, err
			}
		}
		if err := c.subject(top, depth); err != nil {
			return nil, err
		}
		// Once all are known: they name each other.
		for _, p := range append(entries, top) {
			if err := c.annotate(p, false); err != nil {
				return nil, err
			}
		}
		return doc, nil
	})
}

// subject converts what a manifest or index is about, if the image has it.
func (c *imageConverter) subject(top jsonValue, depth int) error {
	d, ok, err := descriptorIn(top, "subject")
	if err != nil || !ok {
		return err
	}
	if _, there := c.source.byName[d.digest.path()]; !there {
		return nil
	}
	b, err := c.graph(d, depth)
	if err != nil {
		return err
	}
	if err := c.point(d, b); err != nil {
		return err
	}
	return c.annotate(d.jsonValue, false)
}
