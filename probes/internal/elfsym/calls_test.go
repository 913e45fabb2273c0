package elfsym

import (
	"bytes"
	"debug/elf"
	"errors"
	"slices"
	"testing"
)

// coded is a file of a machine that is code from its beginning to its end, with a section after it.
func coded(machine elf.Machine, code []byte) *File {
	size := uint64(len(code))
	executed := uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR)
	return &File{r: bytes.NewReader(code), machine: machine, sections: []section{
		{elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: executed, Off: 0, Size: size}, ".text"},
		{elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: executed, Off: size, Size: size}, ".plt"},
	}}
}

func TestCalls(t *testing.T) {
	const at = 16
	amd64 := make([]byte, 64)
	copy(amd64[at:], []byte{0x90, 0xe8, 0x0a, 0, 0, 0, 0xe8, 0xe5, 0xff, 0xff, 0xff, 0xe8, 0x40, 0, 0, 0, 0xe8, 0, 0, 0, 0x80})
	arm64 := make([]byte, 64)
	copy(arm64[at:], []byte{0x1f, 0x20, 0x03, 0xd5, 0x04, 0, 0, 0x94, 0xfb, 0xff, 0xff, 0x97, 0x40, 0, 0, 0x94, 0x01, 0, 0, 0x14})
	for name, c := range map[string]struct {
		file *File
		want []uint64
	}{
		"amd64": {coded(elf.EM_X86_64, amd64), []uint64{at + 6 + 10, at + 11 - 27}}, // the third and fourth are outside
		"arm64": {coded(elf.EM_AARCH64, arm64), []uint64{at + 4 + 16, at + 8 - 20}},
	} {
		calls, err := c.file.Calls(Func{Name: "f", Offset: at, Size: 32})
		if err != nil || !slices.Equal(calls, c.want) {
			t.Errorf("%s: %d, %v, want %d", name, calls, err, c.want)
		}
	}
	for name, fn := range map[string]Func{"of no size": {Offset: at}, "too long": {Offset: at, Size: maxCode + 1}, "in no section": {Offset: 1 << 40, Size: 8}} {
		if calls, err := coded(elf.EM_X86_64, amd64).Calls(fn); !errors.Is(err, ErrCode) {
			t.Errorf("%s: %v, %v", name, calls, err)
		}
	}
	if calls, err := coded(elf.EM_X86_64, amd64).Calls(Func{Offset: at, Size: 1000}); !errors.Is(err, ErrFormat) {
		t.Errorf("behind the end: %v, %v", calls, err)
	}
	if calls, err := coded(elf.EM_RISCV, amd64).Calls(Func{Offset: at, Size: 32}); !errors.Is(err, ErrCode) {
		t.Errorf("of another machine: %v, %v", calls, err)
	}
}

// A text is found wherever it lies, where pieces meet that are read at a time too.
func TestContains(t *testing.T) {
	const text = "/rustls-0.20"
	for _, at := range []int{0, window - 5, window, 2*window - len(text), 2*window + 7} {
		data := make([]byte, 3*window)
		copy(data[at:], text)
		f := coded(elf.EM_X86_64, data)
		if has, err := f.Contains(".text", text); err != nil || !has {
			t.Errorf("at %d: %v, %v", at, has, err)
		}
		if has, err := f.Contains(".text", text+"x"); err != nil || has {
			t.Errorf("another text at %d: %v, %v", at, has, err)
		}
		if has, err := f.Contains(".rodata", text); err != nil || has {
			t.Errorf("in no section: %v, %v", has, err)
		}
	}
	if _, err := coded(elf.EM_X86_64, make([]byte, 8)).Contains(".plt", text); !errors.Is(err, ErrFormat) {
		t.Errorf("behind the end: %v", err)
	}
}
