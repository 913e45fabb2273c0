package attach

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// held is a link of which a handle is kept: without its pin it stays in force as long as the agent runs.
type held struct {
	link link.Link
	seal Seal

	// Of links that can be taken off their hooks or given another program, which are those of cgroups and interfaces.
	// Others stay as they are while there is a handle.
	program *ebpf.Program // nil: it is one of the others
	id      ebpf.ProgramID
	attach  Attacher
	gone    bool // with what it was attached to
}

// newHeld keeps the link and, where it is needed, a handle of the program that it runs.
func newHeld(l link.Link, path string, attacher Attacher) (*held, error) {
	h := &held{link: l}
	var err error
	if h.seal, err = SealOf(path); err != nil {
		return nil, err
	}
	info, err := l.Info()
	if err != nil {
		return nil, fmt.Errorf("reading link: %w", err)
	}
	if info.Cgroup() == nil && info.TCX() == nil {
		return h, nil
	}
	h.id, h.attach = info.Program, attacher
	if h.program, err = ebpf.NewProgramFromID(info.Program); err != nil {
		return nil, fmt.Errorf("opening its program: %w", err)
	}
	return h, nil
}

func (h *held) close() error {
	return errors.Join(h.link.Close(), h.program.Close())
}

// intact reports whether the link runs its program where it was attached.
func (h *held) intact() (bool, error) {
	if h.program == nil || h.gone {
		return true, nil
	}
	info, err := h.link.Info()
	if err != nil {
		return false, fmt.Errorf("reading link: %w", err)
	}
	attached := true
	if cgroup := info.Cgroup(); cgroup != nil {
		attached = cgroup.CgroupId != 0
	}
	if tcx := info.TCX(); tcx != nil {
		attached = tcx.Ifindex != 0
	}
	return attached && info.Program == h.id, nil
}

// again attaches the program anew and pins the link. It returns errGone where there is nothing to attach it to.
func (h *held) again(path string) error {
	fresh, err := h.attach(h.program)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		h.gone = true
		return errGone
	}
	if err != nil {
		return fmt.Errorf("attaching it again: %w", err)
	}
	former := h.link
	h.link, h.seal = fresh, Seal{} // no pin is this link's
	err = former.Close()
	_, restored := h.seal.Restore(path, fresh)
	return errors.Join(err, restored)
}

// keep takes the place of what is held under a name.
func (p *Pins) keep(name string, l link.Link, attacher Attacher) error {
	h, err := newHeld(l, filepath.Join(p.dir, name), attacher)
	if err != nil {
		return errors.Join(fmt.Errorf("keeping link %s: %w", name, err), l.Close())
	}
	err = p.letGo(name)
	p.held[name] = h
	p.look = NewDir(p.dir) // it has changed by our own doing
	return err
}

// letGo closes what is held under a name.
func (p *Pins) letGo(name string) error {
	h := p.held[name]
	if h == nil {
		return nil
	}
	delete(p.held, name)
	return h.close()
}

// Check finds the links and pins that somebody has taken away or changed since they were attached, and puts them back.
// What is gone with its interface or cgroup is no finding. Without handles (NewPins) it finds nothing.
func (p *Pins) Check() []Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Finding
	changed := len(p.held) > 0 && p.look.Changed()
	if changed {
		// What fails here fails again at each pin.
		_ = os.MkdirAll(p.dir, 0o700)
	}
	for _, name := range slices.Sorted(maps.Keys(p.held)) {
		h, path := p.held[name], filepath.Join(p.dir, name)
		if ok, err := h.intact(); !ok {
			if err == nil {
				err = h.again(path)
			}
			if !errors.Is(err, errGone) {
				found = append(found, Finding{ThingLink, name, err})
			}
			continue
		}
		if !changed {
			continue
		}
		if broken, err := h.seal.Restore(path, h.link); broken {
			found = append(found, Finding{ThingPin, name, err})
		}
	}
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Err != nil }) {
		p.look = NewDir(p.dir) // to be tried again
	}
	return found
}

// Close closes the handles; what is pinned stays in force.
func (p *Pins) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for name := range p.held {
		errs = append(errs, p.letGo(name))
	}
	return errors.Join(errs...)
}
