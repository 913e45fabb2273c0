package elfsym

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// maxFunc bounds the code of a function that is looked at.
const maxFunc = 64 << 10

// Returns lists where a function returns, as offsets in the file: for Go, whose stacks move, so that the
// kernel's return probes would break them. It fails for code that cannot be read to its end: an exit that
// nobody watches would be worse than a function that is not probed.
func (f *File) Returns(fn Func) ([]uint64, error) {
	if fn.Size == 0 || fn.Size > maxFunc {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrFormat, fn.Name, fn.Size)
	}
	code, err := f.bytes(fn.Offset, fn.Size)
	if err != nil {
		return nil, err
	}
	var returns []uint64
	switch f.machine {
	case elf.EM_X86_64:
		returns, err = returnsX86(code)
	case elf.EM_AARCH64:
		returns = returnsARM64(code)
	default:
		err = fmt.Errorf("%w: of %s", ErrFormat, f.machine)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the code of %s: %w", fn.Name, err)
	}
	if len(returns) == 0 {
		return nil, fmt.Errorf("%w: %s never returns", ErrNotFound, fn.Name)
	}
	for i := range returns {
		returns[i] += fn.Offset
	}
	return returns, nil
}

func returnsX86(code []byte) (at []uint64, err error) {
	for off := 0; off < len(code); {
		inst, err := x86asm.Decode(code[off:], 64)
		if err != nil {
			return nil, fmt.Errorf("%w: offset %#x: %w", ErrFormat, off, err)
		}
		if inst.Op == x86asm.RET {
			at = append(at, uint64(off))
		}
		off += inst.Len
	}
	return at, nil
}

func returnsARM64(code []byte) (at []uint64) {
	const ret = 0xd65f03c0
	for off := 0; off+4 <= len(code); off += 4 {
		if binary.LittleEndian.Uint32(code[off:]) == ret {
			at = append(at, uint64(off))
		}
	}
	return at
}
