// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// digest names content, as "sha256:" and hexadecimal digits, or "sha512:" (OCI image
// specification, descriptor.md, "Digests").
type digest string

const sha256Name = "sha256"

// digestHashes is the algorithms that the specification registers.
var digestHashes = map[string]func() hash.Hash{sha256Name: sha256.New, "sha512": sha512.New}

func parseDigest(text string) (digest, error) {
	algorithm, digits, ok := strings.Cut(text, ":")
	if !ok || algorithm == "" {
		return "", fmt.Errorf("%q: expected a digest, as sha256:HEX", text)
	}
	made, known := digestHashes[algorithm]
	if !known {
		return "", fmt.Errorf("%q: expected a digest by sha256 or sha512, the registered algorithms", text)
	}
	if size := made().Size(); !isHex(digits, 2*size) {
		return "", fmt.Errorf("%q: expected %d hexadecimal digits in lower case behind %s", text, 2*size, algorithm)
	}
	return digest(text), nil
}

func isHex(text string, length int) bool {
	return len(text) == length && strings.Trim(text, "0123456789abcdef") == ""
}

func (d digest) algorithm() string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return algorithm
}

func (d digest) hex() string {
	_, digits, _ := strings.Cut(string(d), ":")
	return digits
}

// path is where a layout has the blob (OCI image specification, image-layout.md).
func (d digest) path() string { return "blobs/" + d.algorithm() + "/" + d.hex() }

// digester computes a digest of what is written to it.
type digester struct {
	hash.Hash
	algorithm string
}

// digesterLike is for a digest that is to be compared with d; without one, for sha256.
func digesterLike(d digest) digester {
	algorithm := d.algorithm()
	if d == "" {
		algorithm = sha256Name
	}
	return digester{digestHashes[algorithm](), algorithm}
}

func (d digester) digest() digest {
	return digest(d.algorithm + ":" + hex.EncodeToString(d.Sum(nil)))
}

// blobDigest is the digest in the name of a file of a layout's blobs.
func blobDigest(name string) (digest, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "blobs" {
		return "", false
	}
	d, err := parseDigest(parts[1] + ":" + parts[2])
	return d, err == nil
}
