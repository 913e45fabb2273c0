// Package attach attaches programs so that they outlive the agent: every link is pinned, and a
// pinned link that runs the same program is adopted instead of replaced, so that a restart leaves no
// gap. It imports no other package of ours.
package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Pins is the directory of a BPF file system that holds pinned links. Its methods may be called from any goroutine.
type Pins struct {
	dir  string
	hold bool

	mu   sync.Mutex
	held map[string]*held // by name of the pin
	look Dir
}

// NewPins makes the directory if it is missing. With hold it keeps a handle of every link, for Check.
func NewPins(dir string, hold bool) (*Pins, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making directory of pinned links: %w", err)
	}
	return &Pins{dir: dir, hold: hold, held: map[string]*held{}, look: NewDir(dir)}, nil
}

// Attacher attaches a program to its hook.
type Attacher func(*ebpf.Program) (link.Link, error)

// Attach makes sure that prog runs at its hook under the pin name. A pinned link with the same
// program is kept (adopted is true); another program's is replaced after the new one is in place, so
// that at every moment one of them runs. The link stays in force after the agent ends.
func (p *Pins) Attach(name string, prog *ebpf.Program, attacher Attacher) (adopted bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := filepath.Join(p.dir, name)
	old, err := link.LoadPinnedLink(path, nil)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("opening pinned link %s: %w", name, err)
	}
	if old != nil {
		same, err := runs(old, prog)
		if err != nil {
			return false, errors.Join(fmt.Errorf("comparing pinned link %s: %w", name, err), old.Close())
		}
		if same {
			return true, p.settle(name, old, attacher)
		}
		defer func() { err = errors.Join(err, old.Close()) }()
	}
	fresh, err := attacher(prog)
	if err != nil {
		return false, fmt.Errorf("attaching %s: %w", name, err)
	}
	if old != nil {
		if err := old.Unpin(); err != nil {
			return false, errors.Join(fmt.Errorf("unpinning the former link %s: %w", name, err), fresh.Close())
		}
	}
	if err := fresh.Pin(path); err != nil {
		return false, errors.Join(fmt.Errorf("pinning link %s: %w", name, err), fresh.Close())
	}
	return false, p.settle(name, fresh, attacher)
}

// settle keeps a pinned link's handle, or closes it, for the pin keeps the link.
func (p *Pins) settle(name string, l link.Link, attacher Attacher) error {
	if p.hold {
		return p.keep(name, l, attacher)
	}
	return l.Close()
}

// runs reports whether the link is live and runs a program of the same instructions.
func runs(l link.Link, prog *ebpf.Program) (bool, error) {
	li, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("reading link: %w", err)
	}
	attached, err := ebpf.NewProgramFromID(li.Program)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // defunct: its interface or cgroup went
	}
	if err != nil {
		return false, fmt.Errorf("opening its program: %w", err)
	}
	defer func() { _ = attached.Close() }() // read only: nothing is lost
	theirs, err := attached.Info()
	if err != nil {
		return false, fmt.Errorf("reading its program: %w", err)
	}
	ours, err := prog.Info()
	if err != nil {
		return false, fmt.Errorf("reading our program: %w", err)
	}
	return theirs.Tag == ours.Tag && theirs.Name == ours.Name, nil
}

// Detach removes a pinned link, whose program does not run any more when it returns. One that is not there is no error.
func (p *Pins) Detach(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.letGo(name)
	p.look = NewDir(p.dir)
	return errors.Join(err, Remove(filepath.Join(p.dir, name)))
}

// Remove removes the pin of a link that nobody else holds, and waits until the link is gone with it: since Linux 6.6 what goes
// with its last pin is detached in the background, some time later and in any order, and what goes with its last handle is
// detached at once. A pin that is not there is no error.
func Remove(path string) error {
	pinned, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		// It goes all the same, in the background.
		return errors.Join(fmt.Errorf("opening pinned link %s: %w", path, err), os.Remove(path))
	}
	if err := pinned.Unpin(); err != nil {
		return errors.Join(fmt.Errorf("unpinning link %s: %w", path, err), pinned.Close())
	}
	return pinned.Close()
}

// Names lists the pinned links.
func (p *Pins) Names() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("listing pinned links: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
