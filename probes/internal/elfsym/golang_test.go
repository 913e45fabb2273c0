package elfsym

import (
	"bytes"
	"debug/elf"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

const (
	goRecord    = "crypto/tls.(*Conn).writeRecordLocked"
	goHandshake = "crypto/tls.(*Conn).clientHandshake"
	stripped    = "-ldflags=-s -w"
	external    = "-ldflags=-linkmode=external"
)

// A program's functions are where its symbols say, however it was linked, and stripping it changes nothing in that.
func TestGoFuncs(t *testing.T) {
	for name, mode := range map[string][]string{
		"plain":                     nil,
		"PIE":                       {"-buildmode=pie"},
		"not optimised":             {"-gcflags=all=-N -l"},
		"linked with C":             {external},
		"PIE that is linked with C": {"-buildmode=pie", external},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "with C") {
				if _, err := exec.LookPath("gcc"); err != nil {
					t.Skip("it needs gcc")
				}
			}
			path := program(t, mode...)
			f := open(t, path)
			got, err := f.GoFuncs(goWrite, goRecord, goHandshake, "no.such")
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 3 {
				t.Fatalf("found %v, want three functions and no other", got)
			}
			for _, fn := range got {
				off, size := reference(t, path, fn.Name)
				// The table rounds sizes up to where the next function begins.
				if fn.Offset != off || fn.Size < size || fn.Size > size+64 {
					t.Errorf("%s is at %#x+%#x, its symbol says %#x+%#x", fn.Name, fn.Offset, fn.Size, off, size)
				}
				checkBody(t, f, fn)
			}
		})
	}
}

// A stripped program has no symbols, and all of its functions.
func TestGoFuncsOfStrippedProgram(t *testing.T) {
	full := open(t, program(t))
	path := program(t, stripped)
	f := open(t, path)
	if _, err := f.Funcs(goWrite); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the stripped program has symbols: %v", err)
	}
	got, err := f.GoFuncs(goRecord, goHandshake)
	if err != nil || len(got) != 2 {
		t.Fatalf("found %v, %v", got, err)
	}
	whole, err := full.GoFuncs(goRecord, goHandshake)
	if err != nil {
		t.Fatal(err)
	}
	for name, fn := range got {
		if fn.Size != whole[name].Size {
			t.Errorf("stripped %v, with symbols %v", fn, whole[name])
		}
		checkBody(t, f, fn)
	}
}

// checkBody holds that the body of a function begins behind a jump, with code that makes its stack.
func checkBody(t *testing.T, f *File, fn Func) {
	t.Helper()
	at, err := f.GoBody(fn)
	if err != nil {
		t.Fatal(err)
	}
	code, err := f.bytes(at, 4)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{0x55, 0x48, 0x89, 0xe5} // PUSHQ BP; MOVQ SP, BP
	if f.machine == elf.EM_AARCH64 {
		code, want = []byte{code[0] & 0x1f, code[3]}, []byte{0x14, 0xd1} // SUB $n, RSP, R20
		if code[1] == 0xf8 {
			want = []byte{0x1e, 0xf8} // MOVD.W R30, -n(RSP), where the stack is small
		}
	}
	if at <= fn.Offset || !bytes.Equal(code, want) {
		t.Errorf("%s, which is at %#x, has % x at %#x", fn.Name, fn.Offset, code, at)
	}
}

func TestStackCheck(t *testing.T) {
	for text, want := range map[string]int{
		"\x49\x3b\x66\x10\x76\x10":                                         6,
		"\x49\x3b\x66\x10\x0f\x86\x01\x02\x03\x04":                         10,
		"\x4c\x8d\x64\x24\xf0\x4d\x3b\x66\x10\x76\x10":                     11,
		"\x4c\x8d\xa4\x24\x50\xff\xff\xff\x4d\x3b\x66\x10\x0f\x86\xe1\x08": 18,
		"\x64\x48\x8b\x0c\x25\xf8\xff\xff\xff\x48\x3b\x61\x10\x76\x10":     0, // arguments on the stack: MOVQ (TLS), CX
		"\x49\x3b\x66\x10\x90\x90":                                         0,
		"\x4c\x8d\x64\x24\xf0\x90\x3b\x66\x10\x76\x10":                     0,
		"\x55\x48\x89\xe5":                                                 0,
	} {
		code := append([]byte(text), make([]byte, maxPrologue)...)[:maxPrologue]
		if got := stackCheck(code); got != want {
			t.Errorf("% x: %d, want %d", text, got, want)
		}
	}
}

func TestStackCheckARM64(t *testing.T) {
	for text, want := range map[string]int{
		"\x90\x0b\x40\xf9\xff\x63\x30\xeb\x49\x35\x00\x54":                 12,
		"\x90\x0b\x40\xf9\xf1\x03\x00\x91\x3f\x02\x10\xeb\x49\x35\x00\x54": 16,
		"\x90\x0b\x40\xf9\xf1\x03\x03\xd1\x3f\x02\x10\xeb\x49\x35\x00\x54": 16,
		"\x90\x0b\x40\xf9\xf1\x07\x40\xd1\x3f\x02\x10\xeb\x49\x35\x00\x54": 16,
		"\x90\x0b\x40\xf9\xf1\x03\x03\xd1\x3f\x02\x10\xeb\x48\x35\x00\x54": 0, // another condition
		"\x90\x0b\x40\xf9\xf0\x03\x03\xd1\x3f\x02\x10\xeb\x49\x35\x00\x54": 0, // another register
		"\x90\x0f\x40\xf9\xff\x63\x30\xeb\x49\x35\x00\x54":                 0,
		"\xfd\x7b\xbf\xa9": 0,
	} {
		code := append([]byte(text), make([]byte, maxPrologue)...)[:maxPrologue]
		if got := stackCheckARM64(code); got != want {
			t.Errorf("% x: %d, want %d", text, got, want)
		}
	}
}

// A program for arm64 has the places of its functions found on any machine, stripped or not.
func TestGoFuncsOfARM64(t *testing.T) {
	t.Setenv("GOARCH", "arm64")
	path := program(t)
	f := open(t, path)
	if runtime.GOARCH != "arm64" && f.IsNative() {
		t.Error("it is taken for one of this machine")
	}
	got, err := f.GoFuncs(goWrite, goRecord, goHandshake)
	if err != nil || len(got) != 3 {
		t.Fatalf("found %v, %v", got, err)
	}
	for _, fn := range got {
		if off, _ := reference(t, path, fn.Name); fn.Offset != off {
			t.Errorf("%s is at %#x, its symbol says %#x", fn.Name, fn.Offset, off)
		}
		checkBody(t, f, fn)
	}
}

// What does not begin as Go code does has no body, nor has what is too short or of another machine.
func TestGoBodyOfOtherCode(t *testing.T) {
	f := open(t, program(t))
	found, err := f.GoFuncs(goRecord)
	if err != nil {
		t.Fatal(err)
	}
	fn := found[goRecord]
	for name, other := range map[string]Func{
		"inside of it": {fn.Name, fn.Offset + 1, fn.Size - 1},
		"too short":    {fn.Name, fn.Offset, maxPrologue - 1},
	} {
		if at, err := f.GoBody(other); !errors.Is(err, ErrCode) {
			t.Errorf("%s: body at %#x, %v", name, at, err)
		}
	}
	f.machine = elf.EM_RISCV
	if at, err := f.GoBody(fn); !errors.Is(err, ErrCode) {
		t.Errorf("another machine: body at %#x, %v", at, err)
	}
}
