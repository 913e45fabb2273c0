package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpacked is one entry of an archive as readArchive finds it.
type unpacked struct {
	Name string
	Mode uint64
	Data string
}

// readArchive is a newc reader written from the format's description, without the writer's help.
func readArchive(t *testing.T, data []byte) []unpacked {
	t.Helper()
	var entries []unpacked
	for at := 0; ; {
		header := string(data[at : at+110])
		field := func(i int) int {
			v, err := strconv.ParseUint(header[6+8*i:14+8*i], 16, 32)
			if err != nil {
				t.Fatalf("field %d of the header at %d: %v", i, at, err)
			}
			return int(v)
		}
		if header[:6] != "070701" {
			t.Fatalf("magic at %d is %q", at, header[:6])
		}
		nameSize, size := field(11), field(6)
		name := string(data[at+110 : at+110+nameSize])
		body := (at + 110 + nameSize + 3) &^ 3
		if !strings.HasSuffix(name, "\x00") {
			t.Fatalf("name %q does not end in NUL", name)
		}
		name = strings.TrimSuffix(name, "\x00")
		if name == "TRAILER!!!" {
			return entries
		}
		entries = append(entries, unpacked{name, uint64(field(1)), string(data[body : body+size])})
		at = (body + size + 3) &^ 3
	}
}

func TestArchiveHoldsWhatWasAdded(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	a := newArchive(&buf)
	a.file("/usr/bin/x", 0o751, []byte("12345"))
	a.file("usr/lib/empty", 0o644, nil)
	a.symlink("/usr/bin/../link", "bin/x")
	a.dir("/usr/bin")
	a.charDevice("/dev/console", device{5, 1})
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	want := []unpacked{
		{"usr", 0o40755, ""},
		{"usr/bin", 0o40755, ""},
		{"usr/bin/x", 0o100751, "12345"},
		{"usr/lib", 0o40755, ""},
		{"usr/lib/empty", 0o100644, ""},
		{"usr/link", 0o120777, "bin/x"},
		{"dev", 0o40755, ""},
		{"dev/console", 0o20600, ""},
	}
	if diff := cmp.Diff(want, readArchive(t, buf.Bytes())); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// TestArchiveIsReadByCpio unpacks with the system's own tool.
func TestArchiveIsReadByCpio(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio here")
	}
	var buf bytes.Buffer
	a := newArchive(&buf)
	for n := range 9 { // every remainder of the padding
		a.file(fmt.Sprintf("/d/%s", strings.Repeat("n", n+1)), 0o644, bytes.Repeat([]byte("x"), n))
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(tool, "-idm", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &buf
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for n := range 9 {
		got, err := os.ReadFile(filepath.Join(dir, "d", strings.Repeat("n", n+1)))
		if err != nil || len(got) != n {
			t.Errorf("file %d: %d bytes, %v", n, len(got), err)
		}
	}
}

func TestTreeIsCopiedWithLinks(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "real/sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(src, "real/sub/f"), []byte("data"), 0o600))
	must(t, os.Symlink("sub/f", filepath.Join(src, "real/l")))
	must(t, os.Symlink("real", filepath.Join(src, "top")))
	var buf bytes.Buffer
	a := newArchive(&buf)
	must(t, a.tree(filepath.Join(src, "top"), "/to")) // a link given by name is followed
	must(t, a.tree(filepath.Join(src, "real/l"), "/one"))
	must(t, a.close())
	want := []unpacked{{"to", 0o40755, ""}, {"to/l", 0o120777, "sub/f"}, {"to/sub", 0o40755, ""}, {"to/sub/f", 0o100600, "data"}, {"one", 0o100600, "data"}}
	if diff := cmp.Diff(want, readArchive(t, buf.Bytes())); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if err := a.tree(filepath.Join(src, "missing"), "/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("copying a missing file: %v", err)
	}
}

// TestArchiveKeepsTheFirstError writes to a full disk.
func TestArchiveKeepsTheFirstError(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	t.Cleanup(func() { must(t, full.Close()) })
	a := newArchive(full)
	a.file("/big", 0o644, make([]byte, 4<<20))
	a.file("/more", 0o644, []byte("x"))
	if err := a.close(); err == nil {
		t.Error("closing an archive on a full disk succeeded")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
