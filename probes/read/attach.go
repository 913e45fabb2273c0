package read

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
)

// pinPrefix begins the names of the pinned links of taps; the file's key follows.
const pinPrefix = "read_tls_on_"

// fileKey tells files apart; one whose content was replaced is another. It is not the build id that the file says it
// has: who can write a file can give it another's, and would choose where probes go in that.
type fileKey struct {
	dev, ino uint64
	ctime    unix.Timespec
	size     int64
}

// keyOf is the key of an opened file.
func keyOf(r *os.File) (fileKey, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		return fileKey{}, fmt.Errorf("looking at it: %w", err)
	}
	return fileKey{st.Dev, st.Ino, st.Ctim, st.Size}, nil
}

// String is the key in a file's name.
func (k fileKey) String() string {
	return fmt.Sprintf("%x_%x_%x_%x_%x", k.dev, k.ino, k.ctime.Sec, k.ctime.Nsec, k.size)
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
		name := fmt.Sprintf("%s%s_%s_%x", pinPrefix, key, p.program, p.offset)
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

// groups gathers the points that one link serves: all of a program, or each by itself. What begins a connection comes
// last: with a connection that is followed, nothing is written that nobody reads.
func (t *Taps) groups(points []point) [][]point {
	var out [][]point
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(begins(a)-begins(b), cmp.Compare(a.program, b.program), cmp.Compare(a.offset, b.offset))
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

// begins is 1 for a point whose program ties a connection to what it sends next, else 0.
func begins(p point) int {
	if slices.Contains([]string{progUse, progAgain, progUnread, progStart, progNSSImport, progNSSUse}, p.program) {
		return 1
	}
	return 0
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

// detach removes pinned links. What cannot be removed is left to the next Sweep.
func detach(k *probes.Kernel, pins []string) error {
	errs := []error{}
	for _, name := range pins {
		errs = append(errs, k.Pins().Detach(name))
	}
	return errors.Join(errs...)
}

// sweep removes the pinned links of taps but those that are held.
func sweep(k *probes.Kernel, held map[string]bool) error {
	names, err := k.Pins().Names()
	if err != nil {
		return err
	}
	return detach(k, slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, pinPrefix) || held[name]
	}))
}
