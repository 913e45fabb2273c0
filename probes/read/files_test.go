package read

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

func TestExecutable(t *testing.T) {
	for _, c := range []struct {
		line, span, path string
	}{
		{"7f00-7f10 r-xp 00001000 fe:01 123                        /usr/lib/libssl.so.3", "7f00-7f10", "/usr/lib/libssl.so.3"},
		{"00400000-005ea000 r-xp 00000000 fe:01 123                /usr/bin/static", "400000-5ea000", "/usr/bin/static"},
		{"7f00-7f10 r-xp 00001000 fe:01 123                        /tmp/a b (deleted)", "7f00-7f10", "/tmp/a b (deleted)"},
		{"7f00-7f10 r--p 00001000 fe:01 123                        /usr/lib/libssl.so.3", "", ""},
		{"7f00-7f10 r-xp 00000000 00:00 0                          [vdso]", "", ""},
		{"7f00-7f10 rwxp 00000000 00:00 0 ", "", ""},
		{"", "", ""},
	} {
		span, path, ok := executable(c.line)
		if span != c.span || path != c.path || ok != (c.path != "") {
			t.Errorf("%q: %q, %q, %v", c.line, span, path, ok)
		}
	}
}

func TestMappingsOfOneself(t *testing.T) {
	maps, err := mappings("/proc", uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, m := range maps {
		found = found || m.path == self
		if _, err := os.Stat(m.file); err != nil && os.Geteuid() == 0 { // others may not look there
			t.Error(err)
		}
	}
	if !found {
		t.Errorf("%s is not among %v", self, maps)
	}
	if _, err := mappings(t.TempDir(), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
}

// all gives every function of a library an offset.
func all(functions []function) map[string]elfsym.Func {
	found := map[string]elfsym.Func{}
	for i, fn := range functions {
		found[fn.name] = elfsym.Func{Name: fn.name, Offset: uint64(i + 1)}
	}
	return found
}

func TestPlace(t *testing.T) {
	for lib, functions := range libraries() {
		found := all(functions)
		points, err := place(functions, found)
		if err != nil {
			t.Fatal(lib, err)
		}
		returns := 0
		for _, p := range points {
			if p.returns {
				returns++
			}
			if p.program == "" || p.offset == 0 {
				t.Errorf("%s: %+v", lib, p)
			}
		}
		if returns == 0 {
			t.Errorf("%s: nobody sees what a write took", lib)
		}
		for _, fn := range functions {
			if !fn.must {
				continue
			}
			without := all(functions)
			delete(without, fn.name)
			if _, err := place(functions, without); !errors.Is(err, elfsym.ErrNotFound) {
				t.Errorf("%s without %s: %v", lib, fn.name, err)
			}
		}
	}
	// gnutls_record_send calls gnutls_record_send2: a write is seen once.
	points, err := place(libraries()[GnuTLS], all(libraries()[GnuTLS]))
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	for _, p := range points {
		if p.program == progWrite {
			writes++
		}
	}
	if writes != 1 {
		t.Errorf("%d places see a write", writes)
	}
}

// A client of TLS that is written in Go has its own, where its probes are behind where the functions begin.
func TestInspectGo(t *testing.T) {
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lib, points, err := inspect(f)
	if runtime.GOARCH != "amd64" {
		if !errors.Is(err, elfsym.ErrCode) || lib != "" || points != nil {
			t.Errorf("%q, %v, %v", lib, points, err)
		}
		return
	}
	if err != nil || lib != Go || len(points) != len(ofGo()) {
		t.Fatalf("%q, %v, %v", lib, points, err)
	}
	file, err := elfsym.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	begins, err := file.GoFuncs(names(ofGo())...)
	if err != nil {
		t.Fatal(err)
	}
	for i, fn := range ofGo() {
		p, begin := points[i], begins[fn.name]
		if p.program != fn.program || p.returns || p.offset <= begin.Offset || p.offset >= begin.Offset+begin.Size {
			t.Errorf("%s, which is at %#x, has %+v", fn.name, begin.Offset, p)
		}
	}
}

// A program without any TLS library has none, and that is no fault of it.
func TestInspectOneself(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if lib, points, err := inspect(f); !errors.Is(err, elfsym.ErrNotFound) || lib != "" || points != nil {
		t.Errorf("%q, %v, %v", lib, points, err)
	}
}
