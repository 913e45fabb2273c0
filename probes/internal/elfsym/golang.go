package elfsym

import (
	"encoding/binary"
	"fmt"
)

// Go's own table of functions, which stripping leaves: $GOROOT/src/internal/abi/symtab.go and
// runtime/symtab.go. Of Go 1.20 to 1.26, for machines of 64 bits.
const (
	pclnMagic  = 0xfffffff1
	pclnHeader = 8 + 8*8 // bytes
	maxGoFuncs = 1 << 20
)

// pcln is the header of the table. Its offsets count from its beginning.
type pcln struct {
	Magic                                    uint32
	Pad                                      uint16
	Quantum, PtrSize                         uint8
	Funcs, Files, TextStart                  uint64
	FuncNames, Units, FileTab, PCTab, PCLine uint64
}

// IsGo says whether a Go linker has made the file, stripped or not.
func (f *File) IsGo() bool { return f.section(".note.go.buildid", ".go.buildinfo") != nil }

// GoFuncs finds functions of a Go program by name, stripped or not. What is not there is not in the result;
// none at all is ErrNotFound, as is a file that is no Go program. That of a Go before 1.20 is ErrCode.
func (f *File) GoFuncs(names ...string) (map[string]Func, error) {
	s, h, err := f.goTable()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	found, err := f.walkGo(s, &h, wanted)
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("%w: none of %q among the Go functions", ErrNotFound, names)
	}
	return found, err
}

// walkGo looks through the functions: pairs of where one begins, from the beginning of the code, and where
// it is described, from h.PCLine; the description has the name at byte 4.
func (f *File) walkGo(s *section, h *pcln, wanted map[string]bool) (map[string]Func, error) {
	found := map[string]Func{}
	names := &pages{r: f.r, off: s.Off + h.FuncNames, size: s.Size - h.FuncNames, longest: longest(wanted)}
	about := &pages{r: f.r, off: s.Off + h.PCLine, size: s.Size - h.PCLine}
	const pair = 8
	for at := uint64(0); at < h.Funcs; {
		n := min(window/pair, h.Funcs-at)
		raw, err := f.bytes(s.Off+h.PCLine+at*pair, n*pair+4) // and the beginning of the next
		if err != nil {
			return nil, err
		}
		for ; len(raw) >= pair+4; raw = raw[pair:] {
			begin, next := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[pair:])
			nameAt, ok := about.word(uint64(binary.LittleEndian.Uint32(raw[4:])) + 4)
			if !ok {
				continue
			}
			name := names.at(uint64(nameAt))
			if !wanted[string(name)] || next < begin {
				continue
			}
			if off, ok := f.offset(h.TextStart + uint64(begin)); ok {
				found[string(name)] = Func{Name: string(name), Offset: off, Size: uint64(next - begin)}
			}
		}
		at += n
	}
	return found, nil
}
