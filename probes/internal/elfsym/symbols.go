package elfsym

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
)

// symSize is the size of an entry of a table of symbols, in bytes.
const symSize = elf.Sym64Size

// Funcs finds functions by name in the tables of symbols: those that a library exports, and those of an
// executable that is not stripped. What is not there is not in the result; none at all is ErrNotFound.
func (f *File) Funcs(names ...string) (map[string]Func, error) {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	found := map[string]Func{}
	for i := range f.sections {
		s := &f.sections[i]
		if t := elf.SectionType(s.Type); t != elf.SHT_DYNSYM && t != elf.SHT_SYMTAB || elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED != 0 {
			continue
		}
		if err := f.walk(s, wanted, found); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: none of %q among the symbols", ErrNotFound, names)
	}
	return found, nil
}

// walk looks through one table of symbols.
func (f *File) walk(s *section, wanted map[string]bool, found map[string]Func) error {
	if s.Entsize != symSize || s.Size > maxTable || s.Size/symSize > maxSymbols || s.Link >= uint32(len(f.sections)) {
		return fmt.Errorf("%w: a table of %d bytes of symbols", ErrFormat, s.Size)
	}
	strings := f.sections[s.Link]
	if strings.Size > maxTable || elf.SectionType(strings.Type) != elf.SHT_STRTAB || elf.SectionFlag(strings.Flags)&elf.SHF_COMPRESSED != 0 {
		return fmt.Errorf("%w: a table of %d bytes of names", ErrFormat, strings.Size)
	}
	names := &pages{r: f.r, off: strings.Off, size: strings.Size, longest: longest(wanted)}
	end := s.Size / symSize * symSize
	for at := uint64(0); at < end; {
		n := min(window/symSize*symSize, end-at)
		raw, err := f.bytes(s.Off+at, n)
		if err != nil {
			return err
		}
		for ; len(raw) > 0; raw = raw[symSize:] {
			sym := symbol(raw)
			if t := elf.ST_TYPE(sym.Info); t != elf.STT_FUNC || elf.SectionIndex(sym.Shndx) == elf.SHN_UNDEF {
				continue
			}
			name := names.at(uint64(sym.Name))
			if !wanted[string(name)] {
				continue
			}
			if off, ok := f.offset(sym.Value); ok {
				found[string(name)] = Func{Name: string(name), Offset: off, Size: sym.Size}
			}
		}
		at += n
	}
	return nil
}

// symbol decodes an entry: name, kind, visibility, section, value, size.
func symbol(e []byte) elf.Sym64 {
	return elf.Sym64{
		Name: binary.LittleEndian.Uint32(e), Info: e[4], Shndx: binary.LittleEndian.Uint16(e[6:]),
		Value: binary.LittleEndian.Uint64(e[8:]), Size: binary.LittleEndian.Uint64(e[16:]),
	}
}

// longest is how many bytes of a name matter.
func longest(wanted map[string]bool) int {
	n := 0
	for name := range wanted {
		n = max(n, len(name))
	}
	return n
}

// pages reads a large table in pieces: what is asked for is mostly near what was asked for last, and where it
// is not, a piece is small.
type pages struct {
	r         io.ReaderAt
	off, size uint64
	longest   int    // of the texts that matter
	from      uint64 // what buf begins with
	buf       []byte
}

const pageSize = 8 << 10

// hold gets n bytes at an offset of the table, fewer where it ends, valid until the next call.
func (p *pages) hold(i, n uint64) []byte {
	if i >= p.size || p.off > 1<<62 {
		return nil
	}
	n = min(n, p.size-i)
	if i < p.from || i+n > p.from+uint64(len(p.buf)) {
		if p.buf == nil {
			p.buf = make([]byte, pageSize)
		}
		p.from = i
		p.buf = p.buf[:min(pageSize, p.size-i)]
		got, _ := p.r.ReadAt(p.buf, int64(p.off+i)) // what is not read is not found
		p.buf = p.buf[:got]
	}
	have := p.buf[min(i-p.from, uint64(len(p.buf))):]
	return have[:min(n, uint64(len(have)))]
}

// at is the text at an offset of the table, without its NUL. A longer one than matters, or one that is not
// there, is nil. It is valid until the next call.
func (p *pages) at(i uint64) []byte {
	text, _, ends := bytes.Cut(p.hold(i, uint64(p.longest)+1), []byte{0})
	if !ends {
		return nil
	}
	return text
}

// word is the little-endian word at an offset of the table.
func (p *pages) word(i uint64) (value uint32, ok bool) {
	raw := p.hold(i, 4)
	if len(raw) < 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(raw), true
}
