// SPDX-License-Identifier: Apache-2.0

package layer

// manifest converts an image's manifest, its configuration and its layers, or that of
// something else (OCI image specification, manifest.md).
func (c *imageConverter) manifest(m *imageFile, d descriptor, depth int) (*blob, error) {
	return c.rewrite(m, "a manifest", d.digest, func(raw []byte) (*jsonText, error) {
		doc, top, err := parseJSONText(m.name, raw, '{')
		if err != nil {
			return nil, err
		}
		if err := top.is(d.mediaType, "manifests", "fsLayers"); err != nil {
			return nil, err
		}
		config, ok, err := descriptorIn(top, "config")
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, top.fail("has no config: expected a manifest")
		}
		layers, err := layersOf(top)
		if err != nil {
			return nil, err
		}
		switch config.mediaType {
		case ociConfig, dockerConfig:
			err = c.image(config, layers)
		default:
			err = c.other(top, config, layers)
		}
		if err != nil {
			return nil, err
		}
		if err := c.subject(top, depth); err != nil {
			return nil, err
		}
		return doc, c.annotate(top, false)
	})
}

func layersOf(top jsonValue) ([]descriptor, error) {
	list, ok, err := top.get("layers")
	if err != nil || !ok {
		return nil, err
	}
	elements, err := list.array()
	if err != nil {
		return nil, err
	}
	layers := make([]descriptor, len(elements))
	for i, element := range elements {
		if layers[i], err = descriptorAt(element); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

// other passes on what isn't an image: its blobs stay.
func (c *imageConverter) other(top jsonValue, config descriptor, layers []descriptor) error {
	kind, err := top.text("artifactType")
	if err != nil {
		return err
	}
	for _, d := range layers {
		layer, err := isLayer(d.mediaType)
		// Where it says that it is none, a layer is a file to be fetched, whatever tools call it.
		if (layer || err != nil) && kind == "" && config.mediaType != ociEmpty {
			return d.fail("is a layer of something whose configuration is %s: only an image's can be shifted", config.mediaType)
		}
	}
	for _, d := range append(layers, config) {
		if err := c.pass(d); err != nil {
			return err
		}
	}
	return nil
}

// pass lets what a descriptor names stay as it is.
func (c *imageConverter) pass(d descriptor) error {
	m, err := c.find(d)
	if err != nil {
		return err
	}
	if err := c.keep(m, d.digest); err != nil {
		return err
	}
	return c.annotate(d.jsonValue, false)
}

// image shifts an image. Attestations have the manifest and the configuration of one, too,
// with layers of other kinds.
func (c *imageConverter) image(config descriptor, layers []descriptor) error {
	m, err := c.find(config)
	if err != nil {
		return err
	}
	ic, err := c.config(m, config.digest)
	if err != nil {
		return err
	}
	for n, d := range layers {
		shiftable, err := isLayer(d.mediaType)
		if err != nil {
			return d.fail("%w", err)
		}
		if !shiftable {
			if err := c.pass(d); err != nil {
				return err
			}
			continue
		}
		if len(ic.diffs) != len(layers) {
			return config.fail("has %d diff_ids for %d layers: expected one for each", len(ic.diffs), len(layers))
		}
		if _, ok, err := d.get("urls"); ok || err != nil {
			return d.fail("has urls, where the layer as it is now may be fetched: expected an image that brings all its layers")
		}
		file, err := c.find(d)
		if err != nil {
			return err
		}
		b, err := c.layer(file, ic.diffs[n].old, d.digest)
		if err != nil {
			return err
		}
		if err := c.point(d, b); err != nil {
			return err
		}
		if err := c.annotate(d.jsonValue, b.changed()); err != nil {
			return err
		}
	}
	b, err := c.finish(ic)
	if err != nil {
		return err
	}
	if err := c.point(config, b); err != nil {
		return err
	}
	return c.annotate(config.jsonValue, false)
}

// imageConfig is an image's configuration (OCI image specification, config.md).
type imageConfig struct {
	member *imageFile
	stored digest
	doc    *jsonText
	diffs  []diffID
	blob   *blob // once it is written
}

type diffID struct {
	at  jsonValue
	old digest
}

// config reads an image's configuration.
func (c *imageConverter) config(m *imageFile, stored digest) (*imageConfig, error) {
	if ic, ok := c.configs[m]; ok {
		return ic, nil
	}
	raw, err := c.read(m, stored)
	if err != nil {
		return nil, err
	}
	doc, top, err := parseJSONText(m.name, raw, '{')
	if err != nil {
		return nil, err
	}
	ic := &imageConfig{member: m, stored: stored, doc: doc}
	rootfs, ok, err := top.get("rootfs")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, top.fail("has no rootfs: expected the configuration of an image")
	}
	kind, err := rootfs.text("type")
	if err != nil {
		return nil, err
	}
	if kind != "layers" {
		return nil, rootfs.fail("type is %q: expected \"layers\"", kind)
	}
	list, ok, err := rootfs.get("diff_ids")
	if err != nil {
		return nil, err
	}
	if ok {
		elements, err := list.array()
		if err != nil {
			return nil, err
		}
		for _, at := range elements {
			name, err := at.string()
			if err != nil {
				return nil, err
			}
			old, err := parseDigest(name)
			if err != nil {
				return nil, at.fail("%w", err)
			}
			ic.diffs = append(ic.diffs, diffID{at, old})
		}
	}
	c.configs[m] = ic
	return ic, nil
}

// finish writes a configuration whose layers are all known.
func (c *imageConverter) finish(ic *imageConfig) (*blob, error) {
	if ic.blob != nil {
		return ic.blob, nil
	}
	for _, diff := range ic.diffs {
		if after, ok := c.known[diff.old]; ok {
			if err := diff.at.put(after); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if ic.blob, err = c.written(ic.member, ic.doc, ic.stored); err != nil {
		return nil, err
	}
	// The text isn't needed any more, which each of the places holds.
	ic.doc = nil
	for n := range ic.diffs {
		ic.diffs[n].at = jsonValue{}
	}
	return ic.blob, nil
}
