// Package inventory lists what BPF programs, and what belongs to them, are on the machine, so that a test can tell what
// somebody has left there. It needs root.
package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/tests/testutil"
)

// Place says where to look, besides all programs, maps and links of the kernel.
type Place struct {
	NetNS  *testutil.NetNS // the programs at its interfaces count, by tcx and as filters; nil: none
	Cgroup string          // name of that of the test's own containers, below the root of the hierarchy
	Pins   string          // a BPF file system, of which files and directories count; "": none
}

// Inventory is a set of things. Each is one line: its kind, its number in the kernel or its path, its name.
type Inventory map[string]bool

// Take lists what is there. Things that come and go meanwhile may be in it or not.
//
// Not listed are device filters of cgroups, which container runtimes load for each of their containers.
func Take(t testing.TB, at Place) Inventory {
	t.Helper()
	testutil.RequireRoot(t)
	i := Inventory{}
	root := testutil.UnifiedHierarchy(t)
	errs := []error{i.programs(), i.maps(), i.links(), i.attached(root), i.cgroups(root, at.Cgroup)}
	if at.Pins != "" {
		errs = append(errs, i.walk("pin", at.Pins))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal("taking the inventory: ", err)
	}
	if at.NetNS != nil {
		i.interfaces(t, at.NetNS)
	}
	return i
}

// But returns what is not in another inventory.
func (i Inventory) But(other Inventory) Inventory {
	more := Inventory{}
	for thing := range i {
		if !other[thing] {
			more[thing] = true
		}
	}
	return more
}

// Has says whether there is a thing of a kind whose name begins like that.
func (i Inventory) Has(kind, name string) bool {
	for thing := range i {
		if fields := strings.Fields(thing); fields[0] == kind && strings.HasPrefix(fields[len(fields)-1], name) {
			return true
		}
	}
	return false
}

// String lists the things in order, a line each.
func (i Inventory) String() string {
	var lines []string
	for thing := range i {
		lines = append(lines, thing)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// AwaitGone waits until none of the things that were not there before are there any more: the kernel frees them a little
// later. What others on the machine hold does not count.
func AwaitGone(t testing.TB, at Place, before Inventory) {
	t.Helper()
	left := Take(t, at).But(before)
	testutil.Eventually(t, "nothing is left", func() error {
		now := Take(t, at)
		more, err := findOthers(at)
		if err != nil {
			return err
		}
		for thing := range left {
			if !now[thing] || more.hold(thing) { // numbers are not given out again soon
				delete(left, thing)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("there are\n%s", left)
		}
		return nil
	})
}

func (i Inventory) add(kind string, id, name any) { i[fmt.Sprintf("%s %v %v", kind, id, name)] = true }

func (i Inventory) programs() error {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		info, err := p.Info()
		if err == nil && info.Type != ebpf.CGroupDevice {
			i.add("program", id, info.Name)
		}
		if err := errors.Join(err, p.Close()); err != nil {
			return err
		}
	}
}

func (i Inventory) maps() error {
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		info, err := m.Info()
		if err == nil {
			i.add("map", id, info.Name)
		}
		if err := errors.Join(err, m.Close()); err != nil {
			return err
		}
	}
}

func (i Inventory) links() error {
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil {
			return err
		}
		i.add("link", it.ID, fmt.Sprintf("type-%d-of-%d", info.Type, info.Program))
	}
	return it.Err()
}

// attachments are the kinds of those to cgroups that concern sockets and their packets.
var attachments = []ebpf.AttachType{ //nolint:gochecknoglobals // a constant table
	ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetSockCreate, ebpf.AttachCgroupInetSockRelease,
	ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet6Bind, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
	ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCGroupSockOps,
}

// attached lists what is attached to a cgroup.
func (i Inventory) attached(cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	for _, at := range attachments {
		found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: at})
		if err != nil {
			return errors.Join(fmt.Errorf("%v of %s: %w", at, cgroup, err), dir.Close())
		}
		for _, p := range found.Programs {
			i.add("attached", p.ID, at)
		}
	}
	return dir.Close()
}

// cgroups lists the cgroups of a hierarchy but for those of tests that are not this one.
func (i Inventory) cgroups(root, own string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ofTests.MatchString(e.Name()) && e.Name() != own || !e.IsDir() {
			continue
		}
		i.add("cgroup", filepath.Join(root, e.Name()), "")
		if err := i.walk("cgroup", filepath.Join(root, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// ofTests is what testutil.UniqueName and the package pod call cgroups.
var ofTests = regexp.MustCompile(`^(sp[a-z0-9]{10}|sallyport-test-.*)$`)

// walk lists what is below a directory. What goes meanwhile is not there.
func (i Inventory) walk(kind, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path != root && (d.IsDir() || kind == "pin"):
			i.add(kind, path, "")
		}
		return nil
	})
}
