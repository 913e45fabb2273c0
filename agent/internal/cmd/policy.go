package cmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
)

const policyHelp = `Work with policies, without root and without a running agent.

A policy is written, or learnt from what was seen, and read by people; check says whether it is right, test
whether it does what it is for, diff what it would change, and explain why one call is decided as it is.

  sallyport policy learn flows.jsonl > checkout.yaml
  sallyport policy format -w checkout.yaml
  sallyport policy check checkout.yaml
  sallyport policy test checkout_test.yaml
  sallyport policy diff --policies checkout.yaml --events flows.jsonl`

func (p Program) policy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, test, compare, learn and format policies, and ask what they mean",
		Long:  policyHelp,
		Args:  cobra.ArbitraryArgs, // group complains
		RunE:  group,
	}
	c.AddCommand(p.check(), p.explain(), p.test(), p.diff(), p.learn(), p.format())
	return c
}

// readPolicies reads files, directories and, for "-", standard input. Names in what it returns are
// as given, so that an editor finds them. A path that cannot be read at all is the error.
func (p Program) readPolicies(paths []string) ([]policy.File, error) {
	var files []policy.File
	for _, path := range paths {
		more, err := p.readPath(path)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

func (p Program) readPath(path string) ([]policy.File, error) {
	if path != "-" {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("reading policies: %w", err)
		}
		if info.IsDir() {
			return readDir(path)
		}
	}
	data, err := p.readFile(path)
	if err != nil {
		return nil, err
	}
	return []policy.File{parse(nameOf(path), data)}, nil
}

// nameOf is how a file is named in messages.
func nameOf(path string) string {
	if path == "-" {
		return "stdin"
	}
	return path
}

// filesOf puts the files of folders in their place, and leaves files and - as they are.
func filesOf(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if path == "-" || err == nil && !info.IsDir() {
			out = append(out, path)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading policies: %w", err)
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("reading policies: %w", err)
		}
		for _, e := range entries {
			if policy.IsPolicyFile(e.Name()) && e.Type().IsRegular() {
				out = append(out, filepath.Join(path, e.Name()))
			}
		}
	}
	return out, nil
}

// open opens a file, or for "-" standard input.
func (p Program) open(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(p.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading policies: %w", err)
	}
	return f, nil
}

// readFile reads a file, or for "-" standard input, and of what is larger than policy.MaxFileSize one byte
// more: enough for the parser to refuse it.
func (p Program) readFile(path string) ([]byte, error) {
	f, err := p.open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, policy.MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", nameOf(path), err)
	}
	return data, nil
}

func parse(name string, data []byte) policy.File {
	policies, err := policy.Parse(name, data)
	return policy.File{Name: name, Policies: policies, Err: err}
}

// readDir reads a directory as the agent does, and puts its name before those of its files.
func readDir(dir string) ([]policy.File, error) {
	files, err := policy.Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("reading policies: %w", err)
	}
	for i := range files {
		f := &files[i]
		f.Name = filepath.Join(dir, f.Name)
		for _, p := range f.Policies {
			p.File = f.Name
		}
		if errs, ok := errors.AsType[policy.Errors](f.Err); ok {
			for _, e := range errs {
				e.File = f.Name
			}
		}
	}
	return files, nil
}

// defaultPolicies is what is read when no path is given: the agent's own folder.
func defaultPolicies(c *cobra.Command) ([]string, error) {
	cfg, err := load(c)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.Policies.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("name a file or folder: %s, where the agent looks, does not exist", cfg.Policies.Dir)}
	}
	return []string{cfg.Policies.Dir}, nil
}
