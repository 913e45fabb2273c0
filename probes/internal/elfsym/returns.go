package elfsym

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// maxReturns is how many places a function may return from.
const maxReturns = 32

// Returns lists where a function returns, as offsets in the file of its RET instructions. ErrCode: it is too long, has
// none or too many, or an instruction that is not known before its end, so that nobody can tell.
func (f *File) Returns(fn Func) ([]uint64, error) {
	code, err := f.code(fn)
	if err != nil {
		return nil, err
	}
	var at []uint64
	switch f.machine {
	case elf.EM_X86_64:
		at, err = returnsAMD64(code)
	case elf.EM_AARCH64:
		at = returnsARM64(code)
	default:
		err = fmt.Errorf("%w: of %s", ErrCode, f.machine)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fn.Name, err)
	}
	if len(at) == 0 || len(at) > maxReturns {
		return nil, fmt.Errorf("%w: %s returns in %d places", ErrCode, fn.Name, len(at))
	}
	for i := range at {
		at[i] += fn.Offset
	}
	return at, nil
}

// returnsAMD64 decodes a function: what looks like RET may be amid another instruction.
func returnsAMD64(code []byte) (at []uint64, err error) {
	const bits, trap = 64, 0xcc
	for i := 0; i < len(code); {
		if code[i] == trap {
			return at, nil // INT3, which Go's linker fills up with behind a function's last instruction
		}
		inst, err := x86asm.Decode(code[i:], bits)
		if err != nil {
			return nil, fmt.Errorf("%w: an instruction at %d: %w", ErrCode, i, err)
		}
		if inst.Op == x86asm.RET {
			at = append(at, uint64(i))
		}
		i += inst.Len
	}
	return at, nil
}

// returnsARM64 finds RET, whose register is the one that calls leave their return address in.
func returnsARM64(code []byte) (at []uint64) {
	const ret, size = 0xd65f03c0, 4
	for i := 0; i+size <= len(code); i += size {
		if binary.LittleEndian.Uint32(code[i:]) == ret {
			at = append(at, uint64(i))
		}
	}
	return at
}
