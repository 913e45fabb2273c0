package elfsym

import (
	"debug/elf"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// disassembled are the places where Go's own tools say that a function returns, as far as they are behind its beginning.
func disassembled(t *testing.T, path, name string) (at []uint64) {
	t.Helper()
	out, err := exec.Command("go", "tool", "objdump", "-s", "^"+regexp.QuoteMeta(name)+"$", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var begin uint64
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line) // file:line, address, bytes, instruction
		if len(fields) < 4 || !strings.HasPrefix(fields[1], "0x") {
			continue
		}
		address, err := strconv.ParseUint(fields[1], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if begin == 0 {
			begin = address
		}
		if fields[3] == "RET" {
			at = append(at, address-begin)
		}
	}
	return at
}

// A function returns where Go's own disassembler says that it does, on both machines.
func TestReturns(t *testing.T) {
	for _, machine := range []string{"amd64", "arm64"} {
		t.Run(machine, func(t *testing.T) {
			t.Setenv("GOARCH", machine)
			path := program(t)
			f := open(t, path)
			found, err := f.GoFuncs(goWrite, goRecord, goHandshake)
			if err != nil {
				t.Fatal(err)
			}
			for name, fn := range found {
				got, err := f.Returns(fn)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				for i := range got {
					got[i] -= fn.Offset
				}
				if want := disassembled(t, path, name); len(want) == 0 || !slices.Equal(got, want) {
					t.Errorf("%s returns at %#x, its disassembly says %#x", name, got, want)
				}
			}
		})
	}
}

// What looks like RET amid an instruction is none, and code that is not known has none at all.
func TestReturnsOfOtherCode(t *testing.T) {
	const moved, ret, trap, unknown = "\xb8\xc3\xc3\xc3\xc3", "\xc3", "\xcc\xc3", "\x62\xf1\x7c\x48"
	for code, want := range map[string][]uint64{
		moved + ret:                           {5},
		ret + moved + ret:                     {0, 6},
		moved + ret + trap:                    {5},
		moved:                                 nil,
		moved + trap:                          nil,
		ret + unknown + ret:                   nil,
		"":                                    nil,
		strings.Repeat(ret, maxReturns+1):     nil,
		strings.Repeat("\x90", maxCode) + ret: nil,
	} {
		got, err := coded(elf.EM_X86_64, []byte(code)).Returns(Func{Name: "f", Size: uint64(len(code))})
		if !slices.Equal(got, want) || (want == nil) != errors.Is(err, ErrCode) {
			t.Errorf("% x returns at %v: %v", code, got, err)
		}
	}
	if at, err := coded(elf.EM_RISCV, []byte(ret)).Returns(Func{Name: "f", Size: 1}); !errors.Is(err, ErrCode) {
		t.Errorf("another machine: %v, %v", at, err)
	}
}
