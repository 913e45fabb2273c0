// Package read puts taps on TLS libraries, Go's among them: probes on the functions that take cleartext, in the files that
// processes execute. It finds these files by the processes that have them mapped, or where libraries lie, hostile
// as they are, and says of each which tap serves it or why none can. It imports probes and its internals only.
package read

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// maxFiles bounds the files that are looked at for one container. What is beyond has no tap and is opaque at the gate
// (fails closed).
const maxFiles = 1024

// ErrTooMany means that a container executes more files than are looked at.
var ErrTooMany = fmt.Errorf("more than %d files are executed", maxFiles)

// Taps owns the probes on TLS libraries. Its methods may be called from any goroutine.
type Taps struct {
	kernel *probes.Kernel
	proc   string
	coll   *ebpf.Collection
	multi  bool // the kernel attaches many probes by one link

	mu    sync.Mutex
	files map[fileKey]*file
	of    map[uint64]map[fileKey]bool // the files of each container

	searched map[uint64]bool // the containers whose file system was searched for programs
}

// file is a file that was looked at.
type file struct {
	File
	pins       []string
	containers int // that execute it
}

// File says what reads the TLS of a file that processes execute.
type File struct {
	Path    string  // as the first process saw it; hostile text
	Library Library // "": it is read by none
	Why     string  // why not; "" where there is no library in it
}

// OpenTaps loads the probes. proc is where the node's processes are shown (/proc). What was attached before stays until
// Sweep.
func OpenTaps(k *probes.Kernel, proc string) (*Taps, error) {
	spec, err := bpfobj.LoadReadTLS()
	if err != nil {
		return nil, fmt.Errorf("reading the taps: %w", err)
	}
	t := &Taps{
		kernel: k, proc: proc, files: map[fileKey]*file{}, of: map[uint64]map[fileKey]bool{}, searched: map[uint64]bool{},
		multi: features.HaveBPFLinkUprobeMulti() == nil,
	}
	if t.multi {
		for _, p := range spec.Programs {
			p.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	if t.coll, err = k.Maps().Load(spec); err != nil {
		return nil, fmt.Errorf("taps: %w", err)
	}
	if err := k.TapsInPlace(true); err != nil {
		return nil, errors.Join(fmt.Errorf("taps: %w", err), t.Close())
	}
	return t, nil
}

// Remove takes all taps away, for when nobody needs any.
func Remove(k *probes.Kernel) error {
	return errors.Join(sweep(k, nil), k.TapsInPlace(false))
}

// Cover puts taps on every TLS library that a process of a container has mapped now. Files that were looked at before
// cost one call of stat. An error of one file leaves the others covered; what is not covered is opaque at the gate
// (fails closed).
func (t *Taps) Cover(container uint64, pid uint32) error {
	mapped, err := mappings(t.proc, pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	if err != nil {
		return err
	}
	errs := []error{}
	for _, m := range mapped {
		f, err := os.Open(m.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was unmapped, or the process has ended
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("opening the code of %q: %w", m.path, err))
			continue
		}
		errs = append(errs, t.cover(container, f, m.path))
	}
	return errors.Join(errs...)
}

// CoverLibraries puts taps on the TLS libraries that lie where a process of a container would look for them, before any
// process has them mapped: who maps one connects at once.
func (t *Taps) CoverLibraries(container uint64, pid uint32) error {
	errs := []error{}
	err := libraryFiles(t.proc, pid, func(f *os.File, path string) {
		errs = append(errs, t.cover(container, f, path))
	})
	return errors.Join(append(errs, err)...)
}

// CoverPrograms puts taps on the Go programs, which have their TLS inside, that lie where a process of a container would
// look for programs: a program can have sent its first request before what it executes was looked at. Once for each
// container; what comes later is covered when it is executed.
func (t *Taps) CoverPrograms(container uint64, pid uint32) error {
	t.mu.Lock()
	known := t.searched[container]
	t.mu.Unlock()
	if known {
		return nil
	}
	errs := []error{}
	searched, err := programFiles(t.proc, pid, func(r *os.File, path string) {
		if f, err := elfsym.Open(r); err != nil || !f.IsNative() || !f.IsGo() {
			_ = r.Close() // read only; no program, or one whose library lies elsewhere
			return
		}
		errs = append(errs, t.cover(container, r, path))
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.searched[container] = searched
	return errors.Join(append(errs, err)...)
}

// cover looks at a file, which it closes, for a container.
func (t *Taps) cover(container uint64, r *os.File, path string) error {
	defer r.Close() //nolint:errcheck // read only
	key, err := keyOf(r)
	if err != nil {
		return fmt.Errorf("code of %q: %w", path, err)
	}
	if known, err := t.known(container, key); known || err != nil {
		return err
	}
	// A file of a hostile file system can take its time: the others do not wait for it.
	lib, points, err := inspect(r, t.kernel.TellsAllowed())
	f := &file{File: File{Path: path}}
	if err != nil && !errors.Is(err, elfsym.ErrNotFound) && !errors.Is(err, elfsym.ErrFormat) {
		f.Why = err.Error()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[key] == nil {
		f.Library = lib
		if f.pins, err = t.attach(r, key, points); err != nil {
			return errors.Join(fmt.Errorf("tapping %q: %w", path, err), detach(t.kernel, f.pins))
		}
		t.files[key] = f
	}
	t.use(container, key)
	return nil
}

// known says whether a file was looked at, and notes then that a container executes it.
func (t *Taps) known(container uint64, key fileKey) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[container][key] {
		return true, nil
	}
	if len(t.of[container]) >= maxFiles {
		return false, ErrTooMany
	}
	if t.files[key] == nil {
		return false, nil
	}
	t.use(container, key)
	return true, nil
}

// use notes that a container executes a file.
func (t *Taps) use(container uint64, key fileKey) {
	of := t.of[container]
	if of == nil {
		of = map[fileKey]bool{}
		t.of[container] = of
	}
	if !of[key] {
		of[key] = true
		t.files[key].containers++
	}
}

// Retain ends the need of all containers but those that are wanted: files that no other executes lose their taps.
func (t *Taps) Retain(wanted func(container uint64) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := []error{}
	for container := range t.of {
		if !wanted(container) {
			errs = append(errs, t.release(container))
		}
	}
	maps.DeleteFunc(t.searched, func(container uint64, _ bool) bool { return !wanted(container) })
	return errors.Join(errs...)
}

func (t *Taps) release(container uint64) error {
	errs := []error{}
	for key := range t.of[container] {
		f := t.files[key]
		if f.containers--; f.containers > 0 {
			continue
		}
		errs = append(errs, detach(t.kernel, f.pins))
		delete(t.files, key)
	}
	delete(t.of, container)
	return errors.Join(errs...)
}

// Sweep removes the taps that were found in place and that no container has asked for since.
func (t *Taps) Sweep() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := map[string]bool{}
	for _, f := range t.files {
		for _, name := range f.pins {
			held[name] = true
		}
	}
	return sweep(t.kernel, held)
}

// Files lists what a container executes and has, or should have, a tap.
func (t *Taps) Files(container uint64) []File {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []File
	for key := range t.of[container] {
		if f := t.files[key]; f.Library != "" || f.Why != "" {
			out = append(out, f.File)
		}
	}
	slices.SortFunc(out, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// Close releases the programs; what is attached stays.
func (t *Taps) Close() error {
	t.coll.Close()
	return nil
}
