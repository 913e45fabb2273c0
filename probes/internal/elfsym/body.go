package elfsym

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// maxPrologue is how much of a function's code is looked at, in bytes: the longest check of the stack is 18.
const maxPrologue = 32

// GoBody finds where the body of a Go function begins, as an offset in the file: behind the check of the stack that
// the compiler puts before it. A function whose stack is too small, or that is to make place for another goroutine,
// begins a second time from its first instruction, so a probe there would see a call twice. Behind the check the
// arguments are still in the registers that they came in, and no stack is made yet.
//
// On amd64 the check compares with what R14 points to, which is the running goroutine only where arguments are passed
// in registers (Go 1.17 and newer: $GOROOT/src/cmd/compile/abi-internal.md); on arm64 with what R28 points to, where
// they are passed so since Go 1.18. Code that does not begin with it is not what it is taken for, and is ErrCode, as is
// that of other machines.
func (f *File) GoBody(fn Func) (uint64, error) {
	check := map[elf.Machine]func(code []byte) int{elf.EM_X86_64: stackCheck, elf.EM_AARCH64: stackCheckARM64}[f.machine]
	if check == nil {
		return 0, fmt.Errorf("%w: Go on %s", ErrCode, f.machine)
	}
	if fn.Size < maxPrologue {
		return 0, fmt.Errorf("%w: %s has only %d bytes", ErrCode, fn.Name, fn.Size)
	}
	code, err := f.bytes(fn.Offset, maxPrologue)
	if err != nil {
		return 0, err
	}
	n := check(code)
	if n == 0 {
		return 0, fmt.Errorf("%w: %s does not begin as a Go function with arguments in registers", ErrCode, fn.Name)
	}
	return fn.Offset + uint64(n), nil
}

// stackCheckARM64 is stackCheck on arm64:
//
//	MOVD 16(R28), R16
//	CMP R16, RSP      or      MOVD RSP, R17; CMP R16, R17      or      SUB $n, RSP, R17; CMP R16, R17
//	BLS more
func stackCheckARM64(code []byte) int {
	const (
		size  = 4
		load  = 0xf9400b90
		cmpSP = 0xeb3063ff
		move  = 0x910003f1
		sub   = 0xd10003f1 // n in 12 bits, or 4,096 times that
		cmp   = 0xeb10023f
		bls   = 0x54000009 // the distance in 19 bits

		anyN, anyDistance = 0xff8003ff, 0xff00001f // what is not n, not the distance
	)
	at := 0
	next := func(want, mask uint32) bool {
		if binary.LittleEndian.Uint32(code[at:])&mask != want {
			return false
		}
		at += size
		return true
	}
	const all = ^uint32(0)
	if !next(load, all) {
		return 0
	}
	if !next(cmpSP, all) && (!next(move, all) && !next(sub, anyN) || !next(cmp, all)) {
		return 0
	}
	if !next(bls, anyDistance) {
		return 0
	}
	return at
}

// stackCheck is the length of the check of the stack that code of amd64 begins with, in bytes, 0 if it begins with none:
//
//	CMPQ SP, 16(R14)      or      LEAQ -n(SP), R12; CMPQ R12, 16(R14)
//	JBE  more
func stackCheck(code []byte) int {
	rest, found := bytes.CutPrefix(code, []byte{0x49, 0x3b, 0x66, 0x10})
	if !found {
		const leaByte, leaWord = 5, 8 // lengths, with n in one byte and in four
		switch {
		case bytes.HasPrefix(code, []byte{0x4c, 0x8d, 0x64, 0x24}):
			rest = code[leaByte:]
		case bytes.HasPrefix(code, []byte{0x4c, 0x8d, 0xa4, 0x24}):
			rest = code[leaWord:]
		default:
			return 0
		}
		if rest, found = bytes.CutPrefix(rest, []byte{0x4d, 0x3b, 0x66, 0x10}); !found {
			return 0
		}
	}
	const jumpByte, jumpWord = 2, 6 // lengths of JBE
	switch {
	case bytes.HasPrefix(rest, []byte{0x76}):
		rest = rest[jumpByte:]
	case bytes.HasPrefix(rest, []byte{0x0f, 0x86}):
		rest = rest[jumpWord:]
	default:
		return 0
	}
	return len(code) - len(rest)
}
