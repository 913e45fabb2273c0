package attach

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDirSeesWhatComesAndGoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := NewDir(dir)
	if !d.Changed() {
		t.Error("nothing was known, and nothing changed")
	}
	quiet := func() {
		t.Helper()
		time.Sleep(2 * timeGrain)
		d.Changed() // what happened within the grain counts once more
		if d.looks%surely != 0 && d.Changed() {
			t.Error("nothing came or went, and something changed")
		}
	}
	quiet()
	file := filepath.Join(dir, "pin")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !d.Changed() {
		t.Error("a file that came was not seen")
	}
	// Within the grain of the clock: the times may stay the same.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if !d.Changed() {
		t.Error("a file that went at once was not seen")
	}
	quiet()
	seen := 0
	for range 2 * surely {
		if d.Changed() {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("without a change it looked closely %d times in %d, want 2", seen, 2*surely)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !d.Changed() {
			t.Error("a directory that is gone counts as unchanged")
		}
	}
}

// pinned is something that is pinned as a file.
type pinned struct{ refuse error }

func (p pinned) Pin(path string) error {
	if p.refuse != nil {
		return p.refuse
	}
	return os.WriteFile(path, nil, 0o600)
}

func (pinned) Unpin() error { return nil }

func TestSealRestores(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pin")
	if err := (pinned{}).Pin(path); err != nil {
		t.Fatal(err)
	}
	seal, err := SealOf(path)
	if err != nil {
		t.Fatal(err)
	}
	restore := func(what string, by pinned, wantBroken bool, wantErr error) {
		t.Helper()
		broken, err := seal.Restore(path, by)
		if broken != wantBroken || !errors.Is(err, wantErr) {
			t.Errorf("%s: broken %t, %v", what, broken, err)
		}
	}
	restore("as it was", pinned{}, false, nil)
	other := path + ".other"
	if err := errors.Join(os.WriteFile(other, nil, 0o600), os.Rename(other, path)); err != nil {
		t.Fatal(err)
	}
	restore("replaced", pinned{}, true, nil)
	restore("as it is now", pinned{}, false, nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	restore("removed, and refused", pinned{os.ErrPermission}, true, os.ErrPermission)
	restore("still removed", pinned{}, true, nil)
	restore("as it is now", pinned{}, false, nil)
}
