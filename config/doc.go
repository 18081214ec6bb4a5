// SPDX-License-Identifier: Apache-2.0

// Package config reads /etc/userns-runtime/config.toml, strictly: a key it
// doesn't know, a value it can't use, a setting that this build doesn't act
// on, or a file that others could have written refuses the whole file, and
// every reason is told at once.
//
// Without a file the settings are those of [Default], and TOML isn't touched.
//
// It only reads. It doesn't know who may hold which IDs (pkg/registry), and
// doesn't look whether the paths and owners that it names exist.
package config
