package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy/format"
)

const formatHelp = `Write policies, and cases for sallyport policy test, in their one form: fields in the order of the
reference, two blanks of indentation, on one line what is short, quotes where they are needed, comments
where they were. JSON stays JSON. What a file means never changes: that is looked at before anything is
written, and a file that is not right is told as sallyport policy check tells it, and left alone.

A document with anchors (&) and aliases (*) keeps the order of its fields.

PATH is a file, a folder (its *.yaml, *.yml and *.json) or - for standard input. Without a flag the result
goes to standard output.

Exit codes: 0 it went well; 1 a file is not right, or with -l or -d one has another form; 2 the command
line is wrong.`

// formatFlags is what was asked.
type formatFlags struct{ write, diff, list bool }

func (p Program) format() *cobra.Command {
	c := &cobra.Command{
		Use:   "format [-w | -d | -l] PATH…",
		Short: "Write policies in their one form",
		Long:  formatHelp,
		Example: `  sallyport policy format -w ./policies
  sallyport policy format -d ./policies       # in CI: shows what is to be changed and fails
  sallyport policy format - < draft.yaml`,
		Args: someArgs,
	}
	var f formatFlags
	flags := c.Flags()
	flags.BoolVarP(&f.write, "write", "w", false, "write the result back to the files that change, and name them")
	flags.BoolVarP(&f.diff, "diff", "d", false, "show what would change, and fail if something would")
	flags.BoolVarP(&f.list, "list", "l", false, "name the files that would change, and fail if one would")
	c.RunE = func(_ *cobra.Command, paths []string) error {
		if f.write && f.diff || f.write && f.list || f.diff && f.list {
			return usageError{errors.New("give one of -w, -d and -l")}
		}
		files, err := filesOf(paths)
		if err != nil {
			return err
		}
		var errs []error
		changes := 0
		for _, path := range files {
			changed, err := p.formatFile(path, f)
			errs = append(errs, err)
			if changed {
				changes++
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if changes > 0 && !f.write && (f.diff || f.list) {
			return findings(changes)
		}
		return nil
	}
	return c
}

// formatFile formats one file and says whether that changes it.
func (p Program) formatFile(path string, f formatFlags) (changed bool, err error) {
	if f.write && path == "-" {
		return false, usageError{errors.New("standard input cannot be written back: leave -w out")}
	}
	before, err := p.readFile(path)
	if err != nil {
		return false, err
	}
	name := nameOf(path)
	after, err := format.Format(name, before)
	if err != nil {
		return false, err
	}
	changed = !bytes.Equal(before, after)
	switch {
	case f.diff:
		if _, err = p.Stdout.Write(diff.Diff(name, before, name+" (formatted)", after)); err != nil {
			err = fmt.Errorf("writing the answer: %w", err)
		}
	case f.list, f.write:
		if !changed {
			return false, nil
		}
		fmt.Fprintln(p.Stdout, visible(name))
		if f.write {
			err = replaceFile(path, after)
		}
	default:
		if _, err = p.Stdout.Write(after); err != nil {
			err = fmt.Errorf("writing the answer: %w", err)
		}
	}
	return changed, err
}

// replaceFile puts new content into a file's place in one step: an agent that watches the folder never
// reads half of it. The name begins with a dot so that it does not read the new file either, before it is
// whole.
func replaceFile(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sallyport-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
