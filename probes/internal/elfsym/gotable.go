package elfsym

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// goTable finds Go's own table of functions and reads its header. s is where the table lies: in a section of its own,
// or in one that an external linker has gathered with others.
func (f *File) goTable() (s *section, h pcln, err error) {
	s = f.section(".gopclntab", ".data.rel.ro.gopclntab")
	if s == nil {
		if s, err = f.gathered(); err != nil {
			return nil, h, err
		}
	}
	if s.Size < pclnHeader || s.Size > maxTable {
		return nil, h, fmt.Errorf("%w: %d bytes of Go functions", ErrFormat, s.Size)
	}
	if err := f.read(&h, s.Off); err != nil {
		return nil, h, err
	}
	if h.Magic != pclnMagic || h.PtrSize != 8 {
		return nil, h, fmt.Errorf("%w: its table of Go functions is not of Go 1.20 or newer", ErrCode)
	}
	if h.Funcs > maxGoFuncs || h.FuncNames >= s.Size || h.PCLine >= s.Size {
		return nil, h, fmt.Errorf("%w: %d Go functions", ErrFormat, h.Funcs)
	}
	if h.TextStart, err = f.goText(s, &h); err != nil {
		return nil, h, err
	}
	return s, h, nil
}

// gathered finds the table in the section that linkers put it into with others, in programs that can be loaded
// anywhere: it is where its header is. Up to Go 1.25.
func (f *File) gathered() (*section, error) {
	none := fmt.Errorf("%w: it has no table of Go functions", ErrNotFound)
	if !f.IsGo() {
		return nil, none
	}
	s := f.section(".data.rel.ro")
	if s == nil || s.Size > maxTable {
		return nil, none
	}
	const step = 8 // the table's alignment is more
	begin := binary.LittleEndian.AppendUint32(nil, pclnMagic)
	for at := uint64(0); at+pclnHeader <= s.Size; {
		n := min(window, s.Size-at)
		raw, err := f.bytes(s.Off+at, n)
		if err != nil {
			return nil, err
		}
		for i := uint64(0); i+step <= n; i += step {
			if head := raw[i : i+step]; bytes.HasPrefix(head, begin) && head[4] == 0 && head[5] == 0 && head[7] == 8 {
				table := *s
				table.Addr, table.Off, table.Size = s.Addr+at+i, s.Off+at+i, s.Size-at-i
				return &table, nil
			}
		}
		at += n
	}
	return nil, none
}

// goText is the address of the Go code: in the table's header up to Go 1.25, in the module's data from then on, where
// a linker has put C before it too.
func (f *File) goText(s *section, h *pcln) (uint64, error) {
	const (
		headerAt = 24     // of the address in the table's header
		moduleAt = 22 * 8 // in runtime.moduledata
	)
	text, err := f.pointer(s.Addr+headerAt, h.TextStart)
	if err != nil || text != 0 {
		return text, err
	}
	if m := f.section(".go.module"); m != nil && m.Size >= moduleAt+8 {
		if err := f.read(&text, m.Off+moduleAt); err != nil {
			return 0, err
		}
		if text, err = f.pointer(m.Addr+moduleAt, text); err != nil || text != 0 {
			return text, err
		}
	}
	return 0, fmt.Errorf("%w: it does not say where its Go code is", ErrCode)
}
