package elfsym

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"testing"
)

// tiny writes a small library: one segment with code, a note, the function SSL_write among its symbols, and
// main.main in a table of Go functions. It is what the fuzzer starts from, and what a test can predict.
func tiny(t testing.TB) []byte {
	t.Helper()
	return small(t, "\x00.text\x00.dynstr\x00.dynsym\x00.gopclntab\x00.shstrtab\x00.rela.dyn\x00.go.buildinfo\x00", ".gopclntab", 0x1000)
}

// gathered is the same with its table of Go functions among other data, and the address of its code in a relocation.
func gathered(t testing.TB) []byte {
	t.Helper()
	return small(t, "\x00.text\x00.dynstr\x00.dynsym\x00.data.rel.ro\x00.shstrtab\x00.rela.dyn\x00.go.buildinfo\x00", ".data.rel.ro", 0)
}

func small(t testing.TB, names, tableIn string, text uint64) []byte {
	t.Helper()
	const base = 0x1000
	var body bytes.Buffer
	place := func(data any) (off, size uint64) {
		for (64+body.Len())%8 != 0 {
			body.WriteByte(0)
		}
		off = uint64(64 + body.Len())
		if err := binary.Write(&body, binary.LittleEndian, data); err != nil {
			t.Fatal(err)
		}
		return off, uint64(64+body.Len()) - off
	}
	code, codeSize := place(append([]byte{0x90, 0xc3, 0x90, 0x90, 0x49, 0x3b, 0x66, 0x10, 0x76, 0x10}, make([]byte, 64)...))
	note, noteSize := place([]byte("\x04\x00\x00\x00\x04\x00\x00\x00\x03\x00\x00\x00GNU\x00\xde\xad\xbe\xef"))
	str, strSize := place([]byte("\x00SSL_write\x00"))
	sym, symBytes := place([]elf.Sym64{{}, {Name: 1, Info: byte(elf.STT_FUNC), Shndx: 1, Value: base, Size: 2}})
	table := pcln{Magic: pclnMagic, Quantum: 1, PtrSize: 8, Funcs: 1, TextStart: text, FuncNames: pclnHeader, PCLine: pclnHeader + 16}
	dataOff, _ := place(make([]uint64, 3)) // what is before the table, where there is more than it
	pclnOff, _ := place(&table)
	place([]byte("main.main\x00\x00\x00\x00\x00\x00\x00"))
	place([]uint32{4, 12, 70, 4, 0, 0}) // begins at 4, described at 12, the next at 70; of the description: entry, name
	pclnSize := uint64(64+body.Len()) - pclnOff
	if tableIn != ".gopclntab" {
		pclnOff, pclnSize = dataOff, pclnSize+pclnOff-dataOff
	}
	const dataAt = 0x2000
	rela, relaBytes := place([]elf.Rela64{{Off: 1}, {Off: dataAt + 24 + 24, Info: uint64(elf.R_X86_64_RELATIVE), Addend: base}})
	at := func(name string) uint32 { return uint32(bytes.Index([]byte(names), []byte("\x00"+name+"\x00")) + 1) }
	shstr, shstrSize := place([]byte(names))
	sh, _ := place([]elf.Section64{
		{},
		{Name: at(".text"), Type: uint32(elf.SHT_PROGBITS), Addr: base, Off: code, Size: codeSize},
		{Name: at(".dynstr"), Type: uint32(elf.SHT_STRTAB), Off: str, Size: strSize},
		{Name: at(".dynsym"), Type: uint32(elf.SHT_DYNSYM), Off: sym, Size: symBytes, Link: 2, Entsize: symSize},
		{Name: at(tableIn), Type: uint32(elf.SHT_PROGBITS), Addr: dataAt, Off: pclnOff, Size: pclnSize},
		{Name: at(".shstrtab"), Type: uint32(elf.SHT_STRTAB), Off: shstr, Size: shstrSize},
		{Name: at(".rela.dyn"), Type: uint32(elf.SHT_RELA), Off: rela, Size: relaBytes, Entsize: relaSize},
		{Name: at(".go.buildinfo"), Type: uint32(elf.SHT_PROGBITS), Off: code, Size: codeSize},
	})
	ph, _ := place([]elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_X), Off: code, Vaddr: base, Filesz: codeSize, Memsz: codeSize},
		{Type: uint32(elf.PT_NOTE), Off: note, Filesz: noteSize},
	})
	header := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Phoff: ph, Phnum: 2, Phentsize: 56,
		Shoff: sh, Shnum: 8, Shentsize: 64, Shstrndx: 5, Ehsize: 64,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, &header); err != nil {
		t.Fatal(err)
	}
	out.Write(body.Bytes())
	return out.Bytes()
}

func TestTinyLibrary(t *testing.T) {
	f, err := Open(bytes.NewReader(tiny(t)))
	if err != nil {
		t.Fatal(err)
	}
	if f.BuildID() != "deadbeef" {
		t.Errorf("build id %q", f.BuildID())
	}
	found, err := f.Funcs("SSL_write")
	if want := (Func{"SSL_write", 64, 2}); err != nil || found["SSL_write"] != want {
		t.Errorf("exported: %v, %v, want %v", found, err, want)
	}
	for name, raw := range map[string][]byte{"by its section": tiny(t), "among other data": gathered(t)} {
		f, err := Open(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		found, err := f.GoFuncs("main.main")
		if want := (Func{"main.main", 68, 66}); err != nil || found["main.main"] != want {
			t.Fatalf("of Go, %s: %v, %v, want %v", name, found, err, want)
		}
		if at, err := f.GoBody(found["main.main"]); err != nil || at != 74 {
			t.Errorf("%s: its body is at %d, %v, want 74", name, at, err)
		}
	}
}

// Data is as a loader leaves it: with the pointers that relocations put there.
func TestWords(t *testing.T) {
	f, err := Open(bytes.NewReader(gathered(t)))
	if err != nil {
		t.Fatal(err)
	}
	words, err := f.Words(".data.rel.ro")
	if err != nil || len(words) < 7 || uint32(words[3]) != pclnMagic || words[6] != 0x1000 {
		t.Errorf("%x, %v", words, err)
	}
	if words, err := f.Words(".data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no section: %x, %v", words, err)
	}
}

// A file that claims more than it has is refused, and nothing of the size it claims is allocated.
func TestClaimsAreBounded(t *testing.T) {
	whole := tiny(t)
	for off := range whole {
		for _, b := range []byte{0xff, 0x7f, 0x80} {
			raw := bytes.Clone(whole)
			for i := off; i < min(off+4, len(raw)); i++ {
				raw[i] = b
			}
			f, err := Open(bytes.NewReader(raw))
			if err != nil {
				continue
			}
			for _, name := range []string{".data.rel.ro", ".gopclntab"} {
				if words, err := f.Words(name); err == nil && len(words)*8 > len(raw) {
					t.Errorf("offset %d, %#x: %d words of %s", off, b, len(words), name)
				}
			}
			for _, find := range []func(...string) (map[string]Func, error){f.Funcs, f.GoFuncs} {
				if found, err := find("SSL_write", "main.main"); err == nil && len(found) == 0 {
					t.Errorf("offset %d, %#x: neither functions nor an error", off, b)
				}
			}
		}
	}
}
