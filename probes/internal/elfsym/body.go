package elfsym

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// maxPrologue is how much of a function's code is looked at, in bytes: the longest check of the stack is 18.
const maxPrologue = 32

// GoBody finds where the body of a Go function begins, as an offset in the file: behind the check of the stack that
// the compiler puts before it. A function whose stack is too small, or that is to make place for another goroutine,
// begins a second time from its first instruction, so a probe there would see a call twice. Behind the check the
// arguments are still in the registers that they came in, and no stack is made yet.
//
// The check compares with what R14 points to, which is the running goroutine only where arguments are passed in
// registers (Go 1.17 and newer on amd64: $GOROOT/src/cmd/compile/abi-internal.md): code that does not begin with it is
// not what it is taken for, and is ErrCode, as is that of other machines.
func (f *File) GoBody(fn Func) (uint64, error) {
	if f.machine != elf.EM_X86_64 {
		return 0, fmt.Errorf("%w: Go on %s", ErrCode, f.machine)
	}
	if fn.Size < maxPrologue {
		return 0, fmt.Errorf("%w: %s has only %d bytes", ErrCode, fn.Name, fn.Size)
	}
	code, err := f.bytes(fn.Offset, maxPrologue)
	if err != nil {
		return 0, err
	}
	n := stackCheck(code)
	if n == 0 {
		return 0, fmt.Errorf("%w: %s does not begin as a Go function with arguments in registers", ErrCode, fn.Name)
	}
	return fn.Offset + uint64(n), nil
}

// stackCheck is the length of the check of the stack that code begins with, in bytes, 0 if it begins with none:
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
