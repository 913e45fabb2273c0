package read

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// holding is an executable of this machine with nothing but a text in it.
func holding(t *testing.T, text string) *bytes.Reader {
	t.Helper()
	own, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	machine := own.Machine
	_ = own.Close() // read only
	const names = "\x00.rodata\x00.shstrtab\x00"
	const head, sections = 64, 3
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Ehsize: head,
		Shoff: head, Shnum: sections, Shentsize: 64, Shstrndx: 2,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	const at = head + sections*64
	var out bytes.Buffer
	for _, part := range []any{&header, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(text))},
		{Name: 9, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(text)), Size: uint64(len(names))},
	}, []byte(text), []byte(names)} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.NewReader(out.Bytes())
}

// A program with rustls inside has no tap, and that is said of it; one without a library has nothing to be said of.
func TestInspectRustls(t *testing.T) {
	lib, points, err := inspect(holding(t, "called `Option::unwrap()` on a `None` value/src/rustls-0.23.5/src/conn.rs"), false)
	if !errors.Is(err, elfsym.ErrCode) || lib != "" || points != nil {
		t.Errorf("%q, %v, %v", lib, points, err)
	}
	if _, _, err := inspect(holding(t, "no TLS at all"), false); !errors.Is(err, elfsym.ErrNotFound) {
		t.Errorf("a program without: %v", err)
	}
}
