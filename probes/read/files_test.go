package read

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
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

// Where answers are told, reads are watched besides: what is watched without that stays as it is.
func TestInspectForAnswers(t *testing.T) {
	library := func(watched map[Library][]function, lib Library) []point {
		t.Helper()
		points, err := place(watched[lib], all(libraries()[lib]))
		if err != nil {
			t.Fatal(err)
		}
		return points
	}
	for lib, want := range map[Library]int{OpenSSL: 4, GnuTLS: 2} {
		more := library(answers(), lib)
		if len(more) != want {
			t.Errorf("%s: %+v", lib, more)
		}
		for _, p := range library(libraries(), lib) {
			if slices.Contains(more, p) {
				t.Errorf("%s: %+v is watched twice", lib, p)
			}
		}
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
	lib, points, err := inspect(f, false)
	if err != nil || lib != Go || len(points) != 3 {
		t.Fatalf("%q, %v, %v", lib, points, err)
	}
	file, err := elfsym.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	const record, handshake = "crypto/tls.(*Conn).writeRecordLocked", "crypto/tls.(*Conn).clientHandshake"
	at, err := file.GoFuncs(record, handshake)
	if err != nil {
		t.Fatal(err)
	}
	within := func(p point, fn elfsym.Func) bool { return p.offset > fn.Offset && p.offset < fn.Offset+fn.Size }
	if call := (point{program: progCall, offset: at[record].Offset}); points[0] != call ||
		points[1].program != progRecord || !within(points[1], at[record]) || points[2].program != progStart || !within(points[2], at[handshake]) {
		t.Errorf("of %+v there are %+v", at, points)
	}
	// What starts a connection is attached after what reads it.
	taps := &Taps{multi: true}
	if groups := taps.groups(points); len(groups) != 3 || groups[2][0].program != progStart {
		t.Errorf("they are attached in the order %+v", groups)
	}
}

// A program without any TLS library has none, and that is no fault of it.
func TestInspectOneself(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if lib, points, err := inspect(f, false); !errors.Is(err, elfsym.ErrNotFound) || lib != "" || points != nil {
		t.Errorf("%q, %v, %v", lib, points, err)
	}
}
