package policy

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
)

// File is what one file of a directory holds: either its policies or what is wrong with it.
type File struct {
	Name     string // inside the directory
	Policies []*Policy
	Err      error // an Errors, or why the file could not be read
}

// Load reads the policies of a directory: its files named *.yaml, *.yml and *.json in the order of
// their names, without subdirectories and without names that begin with a dot. A file that is
// broken has its Err and takes no other file with it; the error is that of the directory. A policy
// that an earlier file of the directory has is an error of the later file.
func Load(dir fs.FS) ([]File, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("reading the policy directory: %w", err)
	}
	files := []File{}
	seen := map[string]*Policy{}
	for _, e := range entries {
		name := e.Name()
		if !IsPolicyFile(name) || e.IsDir() {
			continue
		}
		f := File{Name: name}
		f.Policies, f.Err = readFile(dir, name)
		if dup := duplicates(seen, f.Policies); len(dup) > 0 {
			f.Policies, f.Err = nil, dup
		}
		for _, p := range f.Policies {
			seen[p.Name()] = p
		}
		files = append(files, f)
	}
	return files, nil
}

// Keep returns policies with those of before in the place of equal ones, so that whoever knows them by
// their address, as compile.Compiler does, sees what has not changed though it was parsed again.
func Keep(before, now []*Policy) []*Policy {
	known := make(map[string]*Policy, len(before))
	for _, p := range before {
		known[p.Name()] = p
	}
	out := slices.Clone(now)
	for i, p := range out {
		if same, ok := known[p.Name()]; ok && reflect.DeepEqual(same, p) {
			out[i] = same
		}
	}
	return out
}

// IsPolicyFile says whether Load reads a file of this name.
func IsPolicyFile(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name))
}

// readFile reads and parses one file, never more than MaxFileSize bytes of it. What is no regular
// file is not opened: a pipe would block whoever reads it.
func readFile(dir fs.FS, name string) ([]*Policy, error) {
	info, err := fs.Stat(dir, name)
	if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", plain(name), err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading policy %s: %w", plain(name), fs.ErrInvalid)
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", plain(name), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	closeErr := f.Close()
	if err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", plain(name), err)
	}
	return Parse(name, data)
}

// duplicates reports the policies that are among those seen.
func duplicates(seen map[string]*Policy, policies []*Policy) (errs Errors) {
	for _, p := range policies {
		if first, twice := seen[p.Name()]; twice {
			errs = append(errs, &Error{
				File: p.File, Line: p.Line, Column: 1, Field: "metadata.name",
				Message: fmt.Sprintf("policy %s is also in %s:%d", quote(p.Name()), plain(first.File), first.Line),
				Hint:    "names are unique in a namespace",
			})
		}
	}
	return errs
}
