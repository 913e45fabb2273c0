package elfsym

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// relaSize is the size of an entry of a table of relocations, in bytes.
const relaSize = 24

// maxData is how much of a section of data is read as words, in bytes.
const maxData = 1 << 20

// pointer is the pointer at an address, where the file has value: in a program that can be loaded anywhere the loader
// puts it there, relative to where that is.
func (f *File) pointer(address, value uint64) (uint64, error) {
	if value != 0 || f.kind != elf.ET_DYN {
		return value, nil
	}
	err := f.relocations(func(at, to uint64) bool {
		if at == address {
			value = to
		}
		return at != address
	})
	return value, err
}

// Words is a section of data as it is in the memory of a program that is loaded at the address 0. A section that is not
// there is ErrNotFound, one that is too large to be read as words is ErrFormat.
func (f *File) Words(name string) ([]uint64, error) {
	s := f.section(name)
	if s == nil {
		return nil, fmt.Errorf("%w: no section %s", ErrNotFound, name)
	}
	if s.Size > maxData {
		return nil, fmt.Errorf("%w: %d bytes of %s", ErrFormat, s.Size, name)
	}
	const word = 8
	raw, err := f.bytes(s.Off, s.Size/word*word)
	if err != nil {
		return nil, err
	}
	words := make([]uint64, 0, len(raw)/word)
	for ; len(raw) > 0; raw = raw[word:] {
		words = append(words, binary.LittleEndian.Uint64(raw)) // packed relocations (RELR) have their pointers in place
	}
	err = f.relocations(func(at, to uint64) bool {
		if i := (at - s.Addr) / word; at >= s.Addr && i < uint64(len(words)) && at%word == s.Addr%word {
			words[i] = to
		}
		return true
	})
	return words, err
}

// CodeAt turns the address of code into the offset in the file. ok is false when it is in no segment that is executed.
func (f *File) CodeAt(address uint64) (offset uint64, ok bool) { return f.offset(address) }

// relocations walks the relocations that put an address into data, relative to where the program is loaded, until
// found returns false: at is where, to what.
func (f *File) relocations(found func(at, to uint64) bool) error {
	for i := range f.sections {
		s := &f.sections[i]
		if elf.SectionType(s.Type) != elf.SHT_RELA || elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED != 0 { //nolint:misspell // ELF calls it so
			continue
		}
		if s.Size > maxTable {
			return fmt.Errorf("%w: a table of %d bytes of relocations", ErrFormat, s.Size)
		}
		end := s.Size / relaSize * relaSize
		for at := uint64(0); at < end; {
			n := min(window/relaSize*relaSize, end-at)
			raw, err := f.bytes(s.Off+at, n)
			if err != nil {
				return err
			}
			for ; len(raw) > 0; raw = raw[relaSize:] {
				relative := f.isRelative(binary.LittleEndian.Uint32(raw[8:]))
				if relative && !found(binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[16:])) {
					return nil
				}
			}
			at += n
		}
	}
	return nil
}

// isRelative says whether a relocation adds where the program is loaded to a constant.
func (f *File) isRelative(kind uint32) bool {
	switch f.machine {
	case elf.EM_X86_64:
		return kind == uint32(elf.R_X86_64_RELATIVE)
	case elf.EM_AARCH64:
		return kind == uint32(elf.R_AARCH64_RELATIVE)
	default:
		return false
	}
}
