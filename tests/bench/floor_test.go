package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// floor is a set of programs on the hooks that a TCP client passes under LSM, none of which decides anything.
type floor struct {
	what    string
	byHook  map[string]asm.Instructions // LSM hooks
	packets asm.Instructions            // both ways
}

// TestFloor measures what the kernel itself takes for the hooks that a TCP connection passes under LSM, with
// programs on them that do nothing, and what it takes to keep anything at all of a socket until it is freed, in
// every way that a program can. Nothing that judges by the owner of a socket can cost less. The server's sockets
// are older than the programs and nobody's: nothing is kept of them.
func TestFloor(t *testing.T) {
	if !testutil.InVM() {
		t.Skip("the LSM step is measured in the guest")
	}
	const rounds = 3
	program := victim.Build(t)
	node := pod.NewNode(t)
	all := floors(t, sizeOfState(t, node))
	took := make([][]time.Duration, len(all))
	for round := range rounds {
		for i, f := range all {
			t.Run(fmt.Sprintf("%d-%d", round, i), func(t *testing.T) {
				c := node.Container(t, fmt.Sprintf("floor%d-%d", round, i), 0)
				serveOutside(t, c)
				f.attach(t, node)
				caller := newCaller(t, c, program)
				defer caller.end()
				settle()
				took[i] = append(took[i], caller.call(t, callTCP, connections))
			})
		}
	}
	var rows []row
	base := median(took[0])
	for i, f := range all[1:] {
		rows = append(rows, row{"TCP connect + close, " + f.what, base, median(took[i+1]), ""})
	}
	printTable("The floor: what the kernel takes by itself (LSM, emulated)", rows)
}

// floors returns what is measured, beginning with no programs at all. stateSize: what Sallyport keeps of a socket,
// in bytes.
func floors(t *testing.T, stateSize uint32) []floor {
	t.Helper()
	with := func(created asm.Instructions) map[string]asm.Instructions {
		return map[string]asm.Instructions{"socket_connect": idle(0), "socket_create": idle(0), "socket_post_create": created}
	}
	table := ownerTable(t)
	listed := with(listing(t, table))
	listed["sk_free_security"] = unlisting(table)
	return []floor{
		{"", nil, nil},
		{"programs that do nothing where connects and packets pass", map[string]asm.Instructions{"socket_connect": idle(0)}, idle(1)},
		{"and where sockets are made", with(idle(0)), idle(1)},
		{fmt.Sprintf("and %d bytes in each socket's storage", ownerLeast), with(storing(t, ownerLeast)), idle(1)},
		{fmt.Sprintf("and %d bytes there, as Sallyport has", stateSize), with(storing(t, stateSize)), idle(1)},
		{fmt.Sprintf("and %d bytes in a table, until the socket is freed", ownerLeast), listed, idle(1)},
		{"and found there by each packet", listed, finding(table)},
	}
}

// sizeOfState returns how much Sallyport keeps of a socket, in bytes.
func sizeOfState(t *testing.T, node *pod.Node) uint32 {
	t.Helper()
	k := open(t, node, false)
	size := k.Maps().Map("state_by_sock").ValueSize()
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, err := probes.Cleanup(node.BPFFS, "sallyport"); err != nil {
		t.Fatal(err)
	}
	return size
}

// attach puts the programs in place until the test ends.
func (f floor) attach(t *testing.T, node *pod.Node) {
	t.Helper()
	for hook, instructions := range f.byHook {
		p := loaded(t, &ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, Instructions: instructions})
		l, err := link.AttachLSM(link.LSMOptions{Program: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // the next round would see it
	}
	if f.packets == nil {
		return
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetIngress} {
		p := loaded(t, &ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: at, Instructions: f.packets})
		l, err := link.AttachCgroup(link.CgroupOptions{Path: node.CgroupRoot, Attach: at, Program: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // the next round would see it
	}
}

func loaded(t *testing.T, spec *ebpf.ProgramSpec) *ebpf.Program {
	t.Helper()
	spec.License = "GPL"
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatalf("loading a program of %s: %+v", spec.AttachTo, err)
	}
	t.Cleanup(func() { _ = p.Close() }) // its link holds it
	return p
}
