// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"fmt"
	"path"
	"strings"
)

// dockerImage is an image as manifest.json has it (Docker's image specification v1.2,
// "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	jsonValue
	config *imageConfig
	blob   *blob // of the configuration
}

// dockerArchive converts what `docker save` and `podman save` write: manifest.json, and
// what it names by paths. In their new form these are blobs of the layout beside it.
func (c *imageConverter) dockerArchive() error {
	m, err := c.source.file(manifestFile)
	if err != nil {
		return err
	}
	var images []dockerImage
	if _, err := c.rewrite(m, "a list of images", "", func(raw []byte) (*jsonText, error) {
		doc, top, err := parseJSONText(m.name, raw, '[')
		if err != nil {
			return nil, err
		}
		elements, err := top.array()
		if err != nil {
			return nil, err
		}
		for _, at := range elements {
			image, err := c.dockerImage(at)
			if err != nil {
				return nil, err
			}
			images = append(images, image)
		}
		if err := c.legacy(images); err != nil {
			return nil, err
		}
		for _, image := range images {
			if err := c.repoint(image); err != nil {
				return nil, err
			}
		}
		return doc, nil
	}); err != nil {
		return err
	}
	return c.repositories()
}

// dockerImage shifts the layers of an image, and makes its configuration anew.
func (c *imageConverter) dockerImage(at jsonValue) (dockerImage, error) {
	image := dockerImage{jsonValue: at}
	config, err := at.text("Config")
	if err != nil {
		return image, err
	}
	m, err := c.fileAt(at, "Config", config)
	if err != nil {
		return image, err
	}
	if image.config, err = c.config(m, digestIn(m.name)); err != nil {
		return image, err
	}
	paths, err := at.pathsIn("Layers")
	if err != nil {
		return image, err
	}
	diffs := image.config.diffs
	if len(paths) != len(diffs) {
		return image, at.fail("has %d layers, and %d diff_ids in %s: expected one for each", len(paths), len(diffs), m.name)
	}
	for n, p := range paths {
		name, err := p.string()
		if err != nil {
			return image, err
		}
		file, err := c.fileAt(p, "", name)
		if err != nil {
			return image, err
		}
		stored, _ := blobDigest(file.name)
		if _, err := c.layer(file, diffs[n].old, stored); err != nil {
			return image, err
		}
	}
	image.blob, err = c.finish(image.config)
	return image, err
}

// fileAt is the file that a path in a document leads to.
func (c *imageConverter) fileAt(p jsonValue, field, name string) (*imageFile, error) {
	clean, err := cleanName(name)
	if err == nil && (clean == "." || !strings.HasSuffix(name, clean)) {
		err = fmt.Errorf("%q: expected the path of a file", name)
	}
	if err != nil {
		return nil, p.fail("%s %w", field, err)
	}
	m, err := c.source.file(clean)
	if err != nil {
		return nil, p.fail("%w", err)
	}
	return m, nil
}

// digestIn is the digest that the file of a configuration is called by, if it is: HEX.json,
// or blobs/sha256/HEX.
func digestIn(name string) digest {
	if d, ok := blobDigest(name); ok {
		return d
	}
	base := path.Base(name)
	if ext := path.Ext(base); ext == ".json" {
		base = base[:len(base)-len(ext)]
	}
	for _, text := range []string{base, sha256Name + ":" + base} {
		if d, err := parseDigest(text); err == nil {
			return d
		}
	}
	return ""
}

// pathsIn is the strings of a list in an object.
func (p jsonValue) pathsIn(name string) ([]jsonValue, error) {
	list, ok, err := p.get(name)
	if err != nil || !ok {
		return nil, err
	}
	return list.array()
}

// repoint gives an image of manifest.json the new names of its files, once all are known.
func (c *imageConverter) repoint(image dockerImage) error {
	config, ok, err := image.get("Config")
	if err != nil || !ok {
		return err
	}
	paths, err := image.pathsIn("Layers")
	if err != nil {
		return err
	}
	for _, p := range append(paths, config) {
		name, err := p.string()
		if err != nil {
			return err
		}
		clean, err := cleanName(name)
		if err != nil {
			return err
		}
		if after := c.nameOf(c.source.byName[clean]); after != clean {
			if err := p.put(name[:len(name)-len(clean)] + after); err != nil {
				return err
			}
		}
	}
	// The ID of the image that this one was built on, if it is in the archive, too.
	parent, ok, err := image.get("Parent")
	if err != nil {
		return err
	}
	if ok {
		name, err := parent.string()
		if err != nil {
			return err
		}
		if after, ok := c.known[digest(name)]; ok {
			if err := parent.put(after); err != nil {
				return err
			}
		}
	}
	return c.layerSources(image)
}

// layerSources rewrites the descriptors of an image's layers, which are found by the diff
// ID of each.
func (c *imageConverter) layerSources(image dockerImage) error {
	sources, ok, err := image.get("LayerSources")
	if err != nil || !ok {
		return err
	}
	items, err := sources.object()
	if err != nil {
		return err
	}
	for _, it := range items {
		d, err := descriptorAt(it.value)
		if err != nil {
			return err
		}
		layer, err := isLayer(d.mediaType)
		if err != nil {
			return d.fail("%w", err)
		}
		if !layer {
			return d.fail("%s: expected a layer", d.mediaType)
		}
		if _, ok, err := d.get("urls"); ok || err != nil {
			return d.fail("has urls, where the layer as it is now may be fetched: expected an image that brings all its layers")
		}
		// The file that it is about may be another's, of the same bytes.
		b := c.stored[d.digest]
		if b == nil || string(b.oldDiff) != it.name {
			return d.fail("%s isn't the layer that has this diff ID", d.digest)
		}
		if err := c.point(d, b); err != nil {
			return err
		}
		if after, ok := c.known[digest(it.name)]; ok {
			if err := it.key.put(after); err != nil {
				return err
			}
		}
	}
	return nil
}

// repositories rewrites the old list of names, which has for each tag the legacy ID of the
// topmost layer; in the new form of the archive it is the layer's digest.
func (c *imageConverter) repositories() error {
	if _, ok := c.source.byName[repositoriesFile]; !ok {
		return nil
	}
	m, err := c.source.file(repositoriesFile)
	if err != nil {
		return err
	}
	_, err = c.rewrite(m, "a list of names", "", func(raw []byte) (*jsonText, error) {
		doc, top, err := parseJSONText(m.name, raw, '{')
		if err != nil {
			return nil, err
		}
		names, err := top.object()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			tags, err := name.value.object()
			if err != nil {
				return nil, err
			}
			for _, tag := range tags {
				id, err := tag.value.string()
				if err != nil {
					return nil, err
				}
				after, ok := c.renamed[id]
				if !ok {
					after = c.known[digest(sha256Name+":"+id)].hex()
				}
				if after != "" {
					if err := tag.value.put(after); err != nil {
						return nil, err
					}
				}
			}
		}
		return doc, nil
	})
	return err
}
