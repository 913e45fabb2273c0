package ladder

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/tests/testutil"
)

// tampering is what root of the node can do to what enforces, and what must be found of it.
type tampering struct {
	name string
	do   func(*testing.T, *rig)
	want []string // things and names that are among what is found, where there are any such
}

func tamperings() []tampering {
	return []tampering{
		{"the pins are wiped", func(t *testing.T, r *rig) {
			must(t, os.RemoveAll(filepath.Join(r.BPFFS, r.cfg.PinDir)))
		}, []string{"pin controls", "pin label_fork", "pin gate_skb_egress"}},
		{"a pin is another's", func(t *testing.T, r *rig) {
			m, err := ebpf.LoadPinnedMap(filepath.Join(r.BPFFS, r.cfg.PinDir, "last_id"), nil)
			must(t, err)
			defer m.Close() // a handle
			must(t, m.Unpin())
			other, err := m.Clone()
			must(t, err)
			defer other.Close() // a handle
			must(t, os.Remove(r.link("label_exec")))
			must(t, other.Pin(r.link("label_exec")))
		}, []string{"pin last_id", "pin label_exec"}},
		{"the revision is zeroed", func(t *testing.T, r *rig) {
			m, err := ebpf.LoadPinnedMap(filepath.Join(r.BPFFS, r.cfg.PinDir, "controls"), nil)
			must(t, err)
			defer m.Close() // a handle
			value, err := m.LookupBytes(uint32(0))
			must(t, err)
			binary.NativeEndian.PutUint64(value, 0)
			must(t, m.Put(uint32(0), value))
		}, []string{"controls"}},
		{"links are detached", func(t *testing.T, r *rig) {
			detached := 0
			for _, name := range r.links(t) {
				l, err := link.LoadPinnedLink(r.link(name), nil)
				must(t, err)
				if err = l.Detach(); err == nil {
					detached++
				} else if !errors.Is(err, link.ErrNotSupported) {
					t.Errorf("detaching %s: %v", name, err)
				}
				must(t, l.Close())
			}
			if detached < 2 {
				t.Errorf("%d links could be detached", detached)
			}
		}, []string{"link gate_skb_egress", "link gate_skb_ingress"}},
		{"a link runs another program", func(t *testing.T, r *rig) {
			other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
			})
			must(t, err)
			defer other.Close() // a handle
			l, err := link.LoadPinnedLink(r.link("gate_skb_egress"), nil)
			must(t, err)
			must(t, l.Update(other))
			must(t, l.Close())
		}, []string{"link gate_skb_egress"}},
		{"the queueing discipline is removed", func(t *testing.T, r *rig) {
			for _, q := range r.clsact(t) {
				r.net.Node.Do(t, func() error { return netlink.QdiscDel(q) })
			}
		}, []string{"filter gate_tc_from_pod", "filter gate_tc_to_pod"}},
		{"a filter is removed", func(t *testing.T, r *rig) {
			for range r.clsact(t) {
				r.net.Node.Do(t, func() error {
					filters, err := netlink.FilterList(r.net.Gate, netlink.HANDLE_MIN_EGRESS)
					if err != nil || len(filters) == 0 {
						return errors.Join(errors.New("no filters"), err)
					}
					return netlink.FilterDel(filters[0])
				})
			}
		}, []string{"filter gate_tc_to_pod"}},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) link(name string) string {
	return filepath.Join(r.BPFFS, r.cfg.PinDir, "links", name)
}

// links lists the pinned links.
func (r *rig) links(t *testing.T) []string {
	t.Helper()
	names, err := r.kernel.Pins().Names()
	must(t, err)
	return names
}

// clsact is the queueing discipline that holds the gate's filters; none where the gate has links.
func (r *rig) clsact(t *testing.T) (found []netlink.Qdisc) {
	t.Helper()
	r.net.Node.Do(t, func() error {
		all, err := netlink.QdiscList(r.net.Gate)
		for _, q := range all {
			if q.Type() == "clsact" {
				found = append(found, q)
			}
		}
		return err
	})
	return found
}

// check looks once at everything, as the agent does, and says what was found. All of it must have been put back.
func (r *rig) check(t *testing.T) (found []string) {
	t.Helper()
	r.net.Node.Do(t, func() error {
		for _, f := range append(r.kernel.Check(), r.gate.Check(gate.AllInterfaces)...) {
			if f.Err != nil {
				t.Errorf("%s %s: %v", f.Thing, f.Name, f.Err)
			}
			found = append(found, f.Thing.String()+" "+f.Name)
		}
		return nil
	})
	return found
}

// TestTamperingIsRepaired holds that what root of the node takes away or changes is found, and back after one look.
func TestTamperingIsRepaired(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		r.cfg.Guard = true
		r.attach(t)
		r.govern(t)
		c := r.started(t, "web")
		r.swap(t, webPolicy)
		r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
		clsact := len(r.clsact(t)) > 0
		for _, k := range tamperings() {
			if found := r.check(t); len(found) > 0 {
				t.Errorf("before %s: found %q", k.name, found)
			}
			k.do(t, r)
			found := strings.Join(r.check(t), "\n")
			for _, want := range k.want {
				if !strings.Contains(found, want) && (clsact || !strings.HasPrefix(want, "filter")) {
					t.Errorf("%s: %q is not among what was found: %q", k.name, want, found)
				}
			}
			r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
			r.expect(t, c, "socket inet raw 253", "EPERM")
			r.expectAttached(t)
		}
		r.adopted(t)
		r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
	})
}

// expectAttached checks that every pinned link is attached to something.
func (r *rig) expectAttached(t *testing.T) {
	t.Helper()
	names := r.links(t)
	if len(names) < 10 {
		t.Errorf("%d links are pinned", len(names))
	}
	for _, name := range names {
		l, err := link.LoadPinnedLink(r.link(name), nil)
		must(t, err)
		info, err := l.Info()
		must(t, err)
		must(t, l.Close())
		if tcx := info.TCX(); tcx != nil && tcx.Ifindex != r.veth.Ifindex {
			t.Errorf("%s is attached to interface %d", name, tcx.Ifindex)
		}
		if cgroup := info.Cgroup(); cgroup != nil && cgroup.CgroupId == 0 {
			t.Errorf("%s is attached to no cgroup", name)
		}
	}
}

// adopted lets another agent adopt what was put back.
func (r *rig) adopted(t *testing.T) {
	t.Helper()
	must(t, r.kernel.Pins().Close()) // as the end of the agent does; its maps are read on
	next, err := attachAgent(r.cfg, r.step)
	must(t, err)
	t.Cleanup(func() { _ = next.close() })
	if next.kernel.Fresh() {
		t.Error("the pins were not found")
	}
	for _, h := range append(append(next.judge.Hooks(), next.labels.Hook()), next.gate.Hooks()[0]) {
		if !h.Adopted {
			t.Errorf("hook %s was not adopted", h.Name)
		}
	}
}

// TestLostBPFFileSystem holds that what is in force stays so without the file system of its pins, and that the pins are
// back when the file system is.
func TestLostBPFFileSystem(t *testing.T) {
	testutil.RequireRoot(t)
	r := newBareRig(t, strongest(t))
	r.cfg.Guard = true
	r.attach(t)
	r.govern(t)
	c := r.started(t, "web")
	r.swap(t, webPolicy)
	must(t, unix.Unmount(r.BPFFS, unix.MNT_DETACH))
	found := r.kernel.Check()
	if len(found) != 1 || found[0].Err == nil || found[0].Name != r.BPFFS {
		t.Errorf("without the file system: %+v", found)
	}
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
	must(t, unix.Mount("bpf", r.BPFFS, "bpf", 0, ""))
	if found := r.check(t); len(found) < 20 {
		t.Errorf("found %q, want every pin", found)
	}
	r.expectAttached(t)
	if found := r.check(t); len(found) > 0 {
		t.Errorf("then it found %q", found)
	}
}
