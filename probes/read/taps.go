// Package read puts taps on TLS libraries: probes on the functions that take cleartext, in the files that
// processes execute. It finds these files by the processes that have them mapped, hostile as they are, and
// says of each which tap serves it or why none can. It imports probes and its internals only.
package read

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// Taps owns the probes on TLS libraries.
type Taps struct {
	kernel *probes.Kernel
	proc   string
	coll   *ebpf.Collection
	multi  bool // the kernel attaches many probes by one link

	mu    sync.Mutex
	files map[fileKey]*file
}

// fileKey tells files apart; one whose content was replaced is another.
type fileKey struct {
	dev, ino uint64
	ctime    unix.Timespec
	size     int64
}

// file is a file that was looked at.
type file struct {
	File
	pins []string
}

// File says what reads the TLS of a file that processes execute.
type File struct {
	Path    string  // as the first process saw it; hostile text
	Library Library // "": it is read by none
	Why     string  // why not; "" where there is no library in it
}

// OpenTaps loads the probes. proc is where the node's processes are shown (/proc).
func OpenTaps(k *probes.Kernel, proc string) (*Taps, error) {
	spec, err := bpfobj.LoadReadTLS()
	if err != nil {
		return nil, fmt.Errorf("reading the taps: %w", err)
	}
	t := &Taps{kernel: k, proc: proc, files: map[fileKey]*file{}, multi: features.HaveBPFLinkUprobeMulti() == nil}
	if t.multi {
		for _, p := range spec.Programs {
			p.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	if t.coll, err = k.Maps().Load(spec); err != nil {
		return nil, fmt.Errorf("taps: %w", err)
	}
	if err := k.TapsInPlace(); err != nil {
		return nil, errors.Join(fmt.Errorf("taps: %w", err), t.Close())
	}
	return t, nil
}

// Cover puts taps on every TLS library that a process has mapped now, and says what it has. Files that were
// looked at before cost one call of stat. An error of one file leaves the others covered; what is not
// covered is opaque at the gate (fails closed).
func (t *Taps) Cover(pid uint32) ([]File, error) {
	maps, err := mappings(t.proc, pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil // it has ended
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var (
		out  []File
		errs []error
	)
	for _, m := range maps {
		f, err := t.look(m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if f.Library != "" || f.Why != "" {
			out = append(out, f.File)
		}
	}
	return out, errors.Join(errs...)
}

// look finds a file among those that are known, or takes it in.
func (t *Taps) look(m mapping) (*file, error) {
	r, err := os.Open(m.file)
	if err != nil {
		return nil, fmt.Errorf("opening the code of %q: %w", m.path, err)
	}
	defer r.Close() //nolint:errcheck // read only
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		return nil, fmt.Errorf("looking at the code of %q: %w", m.path, err)
	}
	key := fileKey{st.Dev, st.Ino, st.Ctim, st.Size}
	if f := t.files[key]; f != nil {
		return f, nil
	}
	f := &file{File: File{Path: m.path}}
	lib, points, err := inspect(r)
	switch {
	case err == nil:
		f.Library = lib
		if f.pins, err = t.attach(r, key, points); err != nil {
			return nil, fmt.Errorf("tapping %q: %w", m.path, err)
		}
	case !errors.Is(err, elfsym.ErrNotFound):
		f.Why = err.Error()
	}
	t.files[key] = f
	return f, nil
}

// attach puts the programs in place and pins them, so that they outlive the agent. The file is named by a
// descriptor: whatever is at its path now, the probes are on what was looked at.
func (t *Taps) attach(r *os.File, key fileKey, points []point) ([]string, error) {
	exe, err := link.OpenExecutable("/proc/self/fd/" + strconv.Itoa(int(r.Fd())))
	if err != nil {
		return nil, fmt.Errorf("opening it: %w", err)
	}
	var pins []string
	for _, group := range t.groups(points) {
		p := group[0]
		name := fmt.Sprintf("%s_%x_%x_%x", p.program, key.dev, key.ino, p.offset)
		_, err := t.kernel.Pins().Attach(name, t.coll.Programs[p.program], func(prog *ebpf.Program) (link.Link, error) {
			return t.probe(exe, prog, group)
		})
		if err != nil {
			return pins, err
		}
		pins = append(pins, name)
	}
	return pins, nil
}

// groups gathers the points that one link serves: all of a program, or each by itself.
func (t *Taps) groups(points []point) [][]point {
	var out [][]point
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.program, b.program), cmp.Compare(a.offset, b.offset))
	})
	for _, p := range points {
		if n := len(out) - 1; t.multi && n >= 0 && out[n][0].program == p.program {
			out[n] = append(out[n], p)
			continue
		}
		out = append(out, []point{p})
	}
	return out
}

// probe attaches a program to the points of a group, which are all where functions begin, or all where they
// return.
func (t *Taps) probe(exe *link.Executable, prog *ebpf.Program, group []point) (link.Link, error) {
	if t.multi {
		opts := &link.UprobeMultiOptions{}
		for _, p := range group {
			opts.Addresses = append(opts.Addresses, p.offset)
		}
		if group[0].returns {
			return exe.UretprobeMulti(nil, prog, opts)
		}
		return exe.UprobeMulti(nil, prog, opts)
	}
	opts := &link.UprobeOptions{Address: group[0].offset}
	if group[0].returns {
		return exe.Uretprobe("", prog, opts)
	}
	return exe.Uprobe("", prog, opts)
}

// Files lists what was looked at and has, or should have, a tap.
func (t *Taps) Files() []File {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []File
	for _, f := range t.files {
		if f.Library != "" || f.Why != "" {
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
