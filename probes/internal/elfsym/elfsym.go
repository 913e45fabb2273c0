// Package elfsym finds functions in executables and libraries: where to put a probe. The files are the
// workloads' own and so hostile: whatever they say of sizes and places is bounded, nothing is unpacked,
// and what a file says can at most put a probe at a wrong place of that same file. debug/elf is not used
// because it unpacks compressed sections to whatever size they claim. It imports no other package of ours.
package elfsym

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
)

var (
	// ErrFormat means that a file is no 64-bit little-endian ELF file, or is broken.
	ErrFormat = errors.New("no usable ELF file")
	// ErrNotFound means that a file has no function of that name, or no table of functions.
	ErrNotFound = errors.New("no such function")
	// ErrCode means that a file has functions whose code, or table, is of a kind that nobody can read here.
	ErrCode = errors.New("unreadable code")
)

// Bounds of what is read of a file.
const (
	maxSections = 4096
	maxSegments = 256
	maxTable    = 128 << 20 // bytes of a table of symbols or names that is walked
	maxSymbols  = 4 << 20   // entries of a table that are looked at
	maxNotes    = 64 << 10
	maxText     = 32 << 20 // bytes of data that a text is looked for in
	window      = 64 << 10 // bytes of a table that are in memory at a time
)

// File is an opened ELF file. It keeps its headers and reads the rest when asked.
type File struct {
	r        io.ReaderAt
	machine  elf.Machine
	kind     elf.Type
	sections []section
	segments []elf.Prog64
	buildID  string
}

// section is a section's header with its name.
type section struct {
	elf.Section64
	name string
}

// Func is a function.
type Func struct {
	Name   string
	Offset uint64 // of its first instruction in the file, in bytes: what a uprobe takes
	Size   uint64 // in bytes; 0: not known
}

// Open reads the headers. The error wraps ErrFormat, or is the reader's.
func Open(r io.ReaderAt) (*File, error) {
	f := &File{r: r}
	var header elf.Header64
	if err := f.read(&header, 0); err != nil {
		return nil, err
	}
	ident := header.Ident
	if string(ident[:len(elf.ELFMAG)]) != elf.ELFMAG || elf.Class(ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w: not of 64 bits and little endian", ErrFormat)
	}
	f.machine, f.kind = elf.Machine(header.Machine), elf.Type(header.Type)
	if f.kind != elf.ET_EXEC && f.kind != elf.ET_DYN {
		return nil, fmt.Errorf("%w: neither executable nor library", ErrFormat)
	}
	if err := f.readSegments(&header); err != nil {
		return nil, err
	}
	if err := f.readSections(&header); err != nil {
		return nil, err
	}
	f.buildID = f.findBuildID()
	return f, nil
}

// IsNative says whether its code is for the machine that this runs on.
func (f *File) IsNative() bool {
	switch f.machine {
	case elf.EM_X86_64:
		return runtime.GOARCH == "amd64"
	case elf.EM_AARCH64:
		return runtime.GOARCH == "arm64"
	default:
		return false
	}
}

// BuildID is the linker's build id in hexadecimal, "" if there is none.
func (f *File) BuildID() string { return f.buildID }

// read decodes a little-endian value at an offset.
func (f *File) read(to any, off uint64) error {
	size := binary.Size(to)
	raw, err := f.bytes(off, uint64(size))
	if err != nil {
		return err
	}
	if _, err := binary.Decode(raw, binary.LittleEndian, to); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// bytes reads exactly n bytes; n is bounded by the caller.
func (f *File) bytes(off, n uint64) ([]byte, error) {
	if off > 1<<62 {
		return nil, fmt.Errorf("%w: offset %#x", ErrFormat, off)
	}
	raw := make([]byte, n)
	if _, err := f.r.ReadAt(raw, int64(off)); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ends before offset %#x", ErrFormat, off+n)
		}
		return nil, fmt.Errorf("reading %d bytes at %#x: %w", n, off, err)
	}
	return raw, nil
}

func (f *File) readSegments(h *elf.Header64) error {
	if h.Phnum == 0 {
		return nil
	}
	if h.Phnum > maxSegments || h.Phentsize != uint16(binary.Size(elf.Prog64{})) {
		return fmt.Errorf("%w: %d segments of %d bytes", ErrFormat, h.Phnum, h.Phentsize)
	}
	f.segments = make([]elf.Prog64, h.Phnum)
	return f.read(f.segments, h.Phoff)
}

// readSections reads the section headers. A file without any is whole: it has functions that nobody finds.
func (f *File) readSections(h *elf.Header64) error {
	if h.Shnum == 0 {
		return nil
	}
	if h.Shnum > maxSections || h.Shentsize != uint16(binary.Size(elf.Section64{})) || h.Shstrndx >= h.Shnum {
		return fmt.Errorf("%w: %d sections of %d bytes", ErrFormat, h.Shnum, h.Shentsize)
	}
	raw := make([]elf.Section64, h.Shnum)
	if err := f.read(raw, h.Shoff); err != nil {
		return err
	}
	names := raw[h.Shstrndx]
	if names.Size > window {
		return fmt.Errorf("%w: %d bytes of section names", ErrFormat, names.Size)
	}
	text, err := f.bytes(names.Off, names.Size)
	if err != nil {
		return err
	}
	f.sections = make([]section, len(raw))
	for i := range raw {
		f.sections[i] = section{raw[i], cString(text, uint64(raw[i].Name))}
	}
	return nil
}

// Contains says whether a text is in a section of data, as far as that is looked at. A section that is not there has none.
func (f *File) Contains(name, text string) (bool, error) {
	s := f.section(name)
	if s == nil {
		return false, nil
	}
	size := min(s.Size, maxText)
	for at := uint64(0); at < size; {
		n := min(window, size-at)
		raw, err := f.bytes(s.Off+at, n)
		if err != nil {
			return false, err
		}
		if bytes.Contains(raw, []byte(text)) {
			return true, nil
		}
		if at += n; at < size {
			at -= uint64(len(text)) // what lies across two windows
		}
	}
	return false, nil
}

// section finds one by any of its names, nil if there is none that can be read as it stands.
func (f *File) section(names ...string) *section {
	for i := range f.sections {
		s := &f.sections[i]
		if slices.Contains(names, s.name) && elf.SectionType(s.Type) != elf.SHT_NOBITS && elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED == 0 {
			return s
		}
	}
	return nil
}

// offset turns the address of code into the offset in the file. ok is false when it is in no segment
// that is executed.
func (f *File) offset(address uint64) (offset uint64, ok bool) {
	for i := range f.segments {
		p := &f.segments[i]
		if elf.ProgType(p.Type) != elf.PT_LOAD || elf.ProgFlag(p.Flags)&elf.PF_X == 0 {
			continue
		}
		if address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			return address - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// noteGNU is the type of the note that holds the build id (NT_GNU_BUILD_ID).
const noteGNU = 3

// findBuildID looks for the build id in the notes. What is broken has none.
func (f *File) findBuildID() string {
	for i := range f.segments {
		p := &f.segments[i]
		if elf.ProgType(p.Type) != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		raw, err := f.bytes(p.Off, p.Filesz)
		if err != nil {
			continue
		}
		if id := buildIDIn(raw); id != "" {
			return id
		}
	}
	return ""
}

// buildIDIn walks notes: the sizes of name and description, a type, then both, padded to 4 bytes.
func buildIDIn(raw []byte) string {
	const head = 12
	padded := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(raw) >= head {
		name, desc := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:])
		kind := binary.LittleEndian.Uint32(raw[8:])
		raw = raw[head:]
		if uint64(len(raw)) < padded(name)+uint64(desc) {
			return ""
		}
		id := raw[padded(name):][:desc]
		if kind == noteGNU && string(raw[:name]) == "GNU\x00" && desc > 0 && desc <= 64 {
			return hex.EncodeToString(id)
		}
		raw = raw[min(padded(name)+padded(desc), uint64(len(raw))):]
	}
	return ""
}

// cString is the text at an offset up to its NUL, "" when it is not in there.
func cString(text []byte, at uint64) string {
	if at >= uint64(len(text)) {
		return ""
	}
	text = text[at:]
	if i := slices.Index(text, 0); i >= 0 {
		return string(text[:i])
	}
	return ""
}
