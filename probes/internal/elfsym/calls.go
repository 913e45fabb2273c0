package elfsym

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
)

// maxCode is how much code of a function is looked at, in bytes.
const maxCode = 4096

// Calls lists the functions of the same section that a function calls directly, as offsets in the file. What is called
// through a table of another library (PLT) is in another section. On amd64 instructions are not decoded: what looks like
// a call in the middle of another instruction is in the list too.
func (f *File) Calls(fn Func) ([]uint64, error) {
	s := f.sectionAt(fn.Offset)
	if s == nil {
		return nil, fmt.Errorf("%w: %s is in no section of code", ErrCode, fn.Name)
	}
	code, err := f.code(fn)
	if err != nil {
		return nil, err
	}
	var out []uint64
	add := func(at int, distance int64) {
		to := uint64(int64(fn.Offset) + int64(at) + distance) // wraps where the file says nonsense: in no section then
		if to >= s.Off && to-s.Off < s.Size && !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	switch f.machine {
	case elf.EM_X86_64:
		callsAMD64(code, add)
	case elf.EM_AARCH64:
		callsARM64(code, add)
	default:
		return nil, fmt.Errorf("%w: of %s", ErrCode, f.machine)
	}
	return out, nil
}

// code reads a function. ErrCode: it is empty or too long.
func (f *File) code(fn Func) ([]byte, error) {
	if fn.Size == 0 || fn.Size > maxCode {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrCode, fn.Name, fn.Size)
	}
	return f.bytes(fn.Offset, fn.Size)
}

// sectionAt is the section of code that an offset of the file is in, nil if there is none.
func (f *File) sectionAt(off uint64) *section {
	for i := range f.sections {
		s := &f.sections[i]
		if elf.SectionType(s.Type) == elf.SHT_PROGBITS && elf.SectionFlag(s.Flags)&elf.SHF_EXECINSTR != 0 &&
			off >= s.Off && off-s.Off < s.Size {
			return s
		}
	}
	return nil
}

// callsAMD64 finds CALL rel32: one byte, then how far it is from behind the instruction.
func callsAMD64(code []byte, found func(at int, distance int64)) {
	const call, size = 0xe8, 5
	for i := 0; i+size <= len(code); i++ {
		if code[i] == call {
			found(i+size, int64(int32(binary.LittleEndian.Uint32(code[i+1:]))))
		}
	}
}

// callsARM64 finds BL: 6 bits, then how many instructions it is away from itself, in 26.
func callsARM64(code []byte, found func(at int, distance int64)) {
	const bl, bits, size = 0x25, 26, 4
	for i := 0; i+size <= len(code); i += size {
		if word := binary.LittleEndian.Uint32(code[i:]); word>>bits == bl {
			found(i, int64(int32(word<<(32-bits)))>>(32-bits)*size)
		}
	}
}
