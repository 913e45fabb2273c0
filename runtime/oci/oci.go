// Package oci owns what an OCI runtime tells a hook: the state on its standard input, the spec in the bundle, and where
// a container that is being made is on the node. It imports runtime/cgroup, runtime/procfs and runtime/identity.
//
// State and spec come from the runtime, but hold names that a workload's author chose: everything is bounded.
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limits on what is read, far above what a runtime writes.
const (
	maxState = 1 << 20  // bytes
	maxSpec  = 16 << 20 // bytes
	maxID    = 1024     // bytes of a container's id, as runc allows
)

// ParseState reads the state that a runtime writes to a hook's standard input. It is refused where it names no
// container, or one that is not being made.
func ParseState(r io.Reader) (specs.State, error) {
	var s specs.State
	text, err := io.ReadAll(io.LimitReader(r, maxState+1))
	switch {
	case err != nil:
		return s, fmt.Errorf("reading the container's state: %w", err)
	case len(text) > maxState:
		return s, fmt.Errorf("reading the container's state: it has more than %d bytes", maxState)
	case len(text) == 0:
		return s, errors.New("reading the container's state: standard input is empty; a runtime writes it there")
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading the container's state: %w", err)
	}
	switch {
	case s.ID == "" || len(s.ID) > maxID:
		return s, fmt.Errorf("reading the container's state: an id of %d bytes", len(s.ID))
	case s.Pid <= 0:
		return s, fmt.Errorf("reading the container's state: pid %d: the hook belongs where the container's process exists, such as createRuntime", s.Pid)
	case !filepath.IsAbs(s.Bundle):
		return s, fmt.Errorf("reading the container's state: bundle %q is no absolute path", s.Bundle)
	}
	return s, nil
}

// ReadSpec reads the spec of a bundle.
func ReadSpec(bundle string) (spec specs.Spec, err error) {
	f, err := os.Open(filepath.Join(bundle, "config.json"))
	if err != nil {
		return spec, fmt.Errorf("reading the container's spec: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	switch {
	case err != nil:
		return spec, fmt.Errorf("reading the container's spec: %w", err)
	case len(text) > maxSpec:
		return spec, fmt.Errorf("reading the container's spec: it has more than %d bytes", maxSpec)
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return spec, fmt.Errorf("reading the container's spec: %w", err)
	}
	return spec, nil
}
