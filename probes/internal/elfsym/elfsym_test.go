package elfsym

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// program builds a Go program that uses crypto/tls. One that an external linker makes has C in it.
func program(t testing.TB, args ...string) string {
	t.Helper()
	cgo := "CGO_ENABLED=0"
	if slices.Contains(args, external) {
		cgo = "CGO_ENABLED=1"
	}
	dir := t.TempDir()
	source := `package main
import ("crypto/tls"; "os")
func main() {
	c, err := tls.Dial("tcp", os.Args[1], nil)
	if err == nil { c.Write([]byte("x")); c.Read(make([]byte, 1)) }
}`
	for name, text := range map[string]string{"main.go": source, "go.mod": "module victim\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "victim")
	cmd := exec.Command("go", append(append([]string{"build"}, args...), "-o", out, ".")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), cgo, "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, msg)
	}
	return out
}

func open(t testing.TB, path string) *File {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	f, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reference is where debug/elf says that a function is in the file.
func reference(t *testing.T, path, name string) (off, size uint64) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name != name {
			continue
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && s.Value >= p.Vaddr && s.Value < p.Vaddr+p.Filesz {
				return s.Value - p.Vaddr + p.Off, s.Size
			}
		}
	}
	t.Fatalf("%s: no symbol %s", path, name)
	return 0, 0
}

const (
	goWrite = "crypto/tls.(*Conn).Write"
	goRead  = "crypto/tls.(*Conn).Read"
)

// A program with symbols is asked by them too, as one that a BoringSSL or OpenSSL is linked into.
func TestFuncsOfProgram(t *testing.T) {
	path := program(t)
	got, err := open(t, path).Funcs(goWrite, "SSL_write")
	if err != nil {
		t.Fatal(err)
	}
	off, size := reference(t, path, goWrite)
	if want := (Func{goWrite, off, size}); len(got) != 1 || got[goWrite] != want {
		t.Errorf("found %v, want %v", got, want)
	}
}

func TestRefusesWhatIsNoELF(t *testing.T) {
	for name, raw := range map[string][]byte{
		"empty": {}, "text": bytes.Repeat([]byte("#!/bin/sh\n"), 20), "32 bits": append([]byte("\x7fELF\x01\x01"), make([]byte, 100)...),
		"big endian": append([]byte("\x7fELF\x02\x02"), make([]byte, 100)...),
	} {
		if f, err := Open(bytes.NewReader(raw)); !errors.Is(err, ErrFormat) || f != nil {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

// FuzzOpen: whatever a file says, it is an error or an answer that points into code of the file, and never a
// panic or much memory.
func FuzzOpen(f *testing.F) {
	f.Add(tiny(f))
	f.Add(gathered(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Open(bytes.NewReader(raw))
		if (err == nil) == (file == nil) {
			t.Fatalf("file %v and error %v", file, err)
		}
		if err != nil {
			return
		}
		for _, find := range []func(...string) (map[string]Func, error){file.Funcs, file.GoFuncs} {
			found, err := find("SSL_write", "main.main")
			if err != nil && len(found) > 0 {
				t.Fatalf("both %v and %v", found, err)
			}
			for _, fn := range found {
				at, err := file.GoBody(fn)
				if err == nil && (at <= fn.Offset || at >= fn.Offset+fn.Size) {
					t.Fatalf("%v has its body at %#x", fn, at)
				}
				returns, _ := file.Returns(fn) // none where it cannot tell
				for _, at := range returns {
					if at < fn.Offset || at >= fn.Offset+fn.Size {
						t.Fatalf("%v returns at %#x", fn, at)
					}
				}
			}
		}
	})
}
