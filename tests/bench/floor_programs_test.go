package bench

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// ownerLeast is the size of the smallest thing that could be kept of a socket's owner: who made it and what was
// decided, in bytes.
const ownerLeast = 16

// Of the kernel's, from include/uapi/linux/bpf.h.
const (
	bpfNoPrealloc = 1 << 0 // BPF_F_NO_PREALLOC
	bpfClone      = 1 << 9 // BPF_F_CLONE
	storageCreate = 1      // BPF_SK_STORAGE_GET_F_CREATE
	skbSock       = 168    // offset of sk in struct __sk_buff
)

// idle is a program that does nothing.
func idle(returns int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, returns), asm.Return()}
}

// sockOfSocket loads the struct sock of the first argument, a struct socket, into R2; without one it goes to "out".
func sockOfSocket(t *testing.T) asm.Instructions {
	t.Helper()
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.LoadMem(asm.R2, asm.R2, offsetOfSock(t), asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "out"),
	}
}

// leave is the end of a program, where "out" is.
func leave(returns int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, returns).WithSymbol("out"), asm.Return()}
}

// storing is a program of socket_post_create that makes the storage of a socket and leaves it zero.
func storing(t *testing.T, size uint32) asm.Instructions {
	t.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	m := made(t, &ebpf.MapSpec{
		Type: ebpf.SkStorage, Flags: bpfNoPrealloc | bpfClone, KeySize: number.Size, Key: number,
		ValueSize: size, Value: &btf.Array{Index: number, Type: &btf.Int{Name: "u8", Size: 1}, Nelems: size},
	})
	return joined(sockOfSocket(t), asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, storageCreate),
		asm.FnSkStorageGet.Call(),
	}, leave(0))
}

// ownerTable is a hash of owners by the address of their socket, all of it allocated before.
func ownerTable(t *testing.T) *ebpf.Map {
	t.Helper()
	return made(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: ownerLeast, MaxEntries: 16384})
}

// keyed puts R2 on the stack and the table and the key there into the first two arguments.
func keyed(table *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(asm.RFP, -8, asm.R2, asm.DWord),
		asm.LoadMapPtr(asm.R1, table.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
	}
}

// listing is a program of socket_post_create that puts the socket into the table.
func listing(t *testing.T, table *ebpf.Map) asm.Instructions {
	t.Helper()
	return joined(sockOfSocket(t), asm.Instructions{
		asm.Mov.Imm(asm.R3, 0),
		asm.StoreMem(asm.RFP, -16, asm.R3, asm.DWord),
		asm.StoreMem(asm.RFP, -24, asm.R3, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -24),
		asm.Mov.Imm(asm.R4, 0),
	}, keyed(table), asm.Instructions{asm.FnMapUpdateElem.Call()}, leave(0))
}

// unlisting is a program of sk_free_security that takes the socket out of the table.
func unlisting(table *ebpf.Map) asm.Instructions {
	return joined(asm.Instructions{asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord)}, keyed(table),
		asm.Instructions{asm.FnMapDeleteElem.Call()}, leave(0))
}

// finding is a program that looks for the socket of a packet in the table.
func finding(table *ebpf.Map) asm.Instructions {
	return joined(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbSock, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "out"),
	}, keyed(table), asm.Instructions{asm.FnMapLookupElem.Call()}, leave(1))
}

func joined(parts ...asm.Instructions) (all asm.Instructions) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func made(t *testing.T, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatalf("making a map of type %v: %v", spec.Type, err)
	}
	t.Cleanup(func() { _ = m.Close() }) // its programs hold it
	return m
}

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
