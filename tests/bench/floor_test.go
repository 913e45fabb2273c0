package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// ownerLeast is the size of the smallest thing that a socket's storage could hold of its owner: who made it
// and what was decided, in bytes.
const ownerLeast = 16

// TestFloor measures what the kernel itself takes for the hooks that a TCP connection passes under LSM, with
// programs on them that do nothing, and what it takes to keep anything at all with each socket. Nothing that
// judges by the owner of a socket can cost less.
func TestFloor(t *testing.T) {
	if !testutil.InVM() {
		t.Skip("the LSM step is measured in the guest")
	}
	const rounds = 3
	program := victim.Build(t)
	node := pod.NewNode(t)
	floors := []struct {
		what  string
		start func(*testing.T, *pod.Node)
	}{
		{"", func(*testing.T, *pod.Node) {}},
		{"programs that do nothing on the same hooks", idle},
		{"the same, and 16 bytes kept on each socket", idleOwning},
	}
	took := make([][]time.Duration, len(floors))
	for round := range rounds {
		for i, f := range floors {
			t.Run(fmt.Sprintf("%d-%d", round, i), func(t *testing.T) {
				c := node.Container(t, fmt.Sprintf("floor%d-%d", round, i), 0)
				f.start(t, node)
				serveOutside(t, c)
				caller := newCaller(t, c, program)
				defer caller.end()
				settle()
				took[i] = append(took[i], caller.call(t, callTCP, connections))
			})
		}
	}
	var rows []row
	base := median(took[0])
	for i, f := range floors[1:] {
		rows = append(rows, row{"TCP connect + close, " + f.what, base, median(took[i+1]), ""})
	}
	printTable("The floor: what the kernel takes by itself (LSM, emulated)", rows)
}

// idle attaches programs that do nothing to the hooks that a TCP client passes, until the test ends.
func idle(t *testing.T, node *pod.Node) {
	t.Helper()
	idleBut(t, node, nothing(t, ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "socket_post_create"}, 0))
}

// idleOwning is idle, but for a program that gives every socket a storage of ownerLeast bytes.
func idleOwning(t *testing.T, node *pod.Node) {
	t.Helper()
	idleBut(t, node, owning(t))
}

func idleBut(t *testing.T, node *pod.Node, created *ebpf.Program) {
	t.Helper()
	attachLSM(t, created)
	for _, hook := range []string{"socket_create", "socket_connect"} {
		attachLSM(t, nothing(t, ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook}, 0))
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetIngress} {
		p := nothing(t, ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: at}, 1)
		l, err := link.AttachCgroup(link.CgroupOptions{Path: node.CgroupRoot, Attach: at, Program: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // the next round would see it
	}
}

func attachLSM(t *testing.T, p *ebpf.Program) {
	t.Helper()
	l, err := link.AttachLSM(link.LSMOptions{Program: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the next round would see it
}

// owning is a program of socket_post_create that makes the storage of a socket and leaves it zero.
func owning(t *testing.T) *ebpf.Program {
	t.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.SkStorage, Flags: bpfNoPrealloc | bpfClone, KeySize: number.Size, Key: number,
		ValueSize: ownerLeast, Value: &btf.Array{Index: number, Type: &btf.Int{Name: "u8", Size: 1}, Nelems: ownerLeast},
	})
	if err != nil {
		t.Fatal("making a map of socket storage: ", err)
	}
	t.Cleanup(func() { _ = m.Close() }) // its program holds it
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "socket_post_create", License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), // struct socket *
			asm.LoadMem(asm.R2, asm.R2, offsetOfSock(t), asm.DWord),
			asm.JEq.Imm(asm.R2, 0, "out"),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.Mov.Imm(asm.R4, storageCreate),
			asm.FnSkStorageGet.Call(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal("loading a program that makes socket storage: ", err)
	}
	t.Cleanup(func() { _ = p.Close() }) // its link holds it
	return p
}

// Flags of the kernel's, from include/uapi/linux/bpf.h.
const (
	bpfNoPrealloc = 1 << 0 // BPF_F_NO_PREALLOC
	bpfClone      = 1 << 9 // BPF_F_CLONE
	storageCreate = 1      // BPF_SK_STORAGE_GET_F_CREATE
)

// offsetOfSock is where this kernel's struct socket keeps its struct sock, in bytes.
func offsetOfSock(t *testing.T) int16 {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var socket *btf.Struct
	if err := kernel.TypeByName("socket", &socket); err != nil {
		t.Fatal(err)
	}
	for _, m := range socket.Members {
		if m.Name == "sk" {
			return int16(m.Offset.Bytes())
		}
	}
	t.Fatal("struct socket has no sk")
	return 0
}
