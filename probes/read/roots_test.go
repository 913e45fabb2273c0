package read

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// The libraries of a root are found where loaders look, and nothing outside of it, whatever its links say.
func TestLibraryFiles(t *testing.T) {
	proc := t.TempDir()
	const pid = 7
	root := filepath.Join(proc, strconv.Itoa(pid), "root")
	for path, text := range map[string]string{
		"usr/lib/x86_64-linux-gnu/libssl.so.3":    "inside",
		"usr/lib/x86_64-linux-gnu/libcrypto.so.3": "another",
		"usr/local/lib/libgnutls.so.30":           "inside",
		"opt/libssl.so.3":                         "not looked at",
		"etc/secret":                              "inside the root",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(proc, "etc", "secret")
	if err := os.MkdirAll(filepath.Dir(outside), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"lib":                   "usr/lib",
		"usr/lib/libssl.so.1":   "../../../../etc/secret", // the root's own, not the one above
		"usr/lib/libssl.so.2":   "/nowhere",
		"usr/lib/libgnutls.so":  "/proc/self/root/etc/secret",
		"usr/lib/libssl.so.dir": "x86_64-linux-gnu",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "usr/lib/libssl.so.pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := libraryFiles(proc, pid, func(f *os.File, path string) {
		text := make([]byte, 64)
		n, err := f.Read(text)
		if err != nil {
			t.Error(err)
		}
		got = append(got, path+" "+string(text[:n]))
		_ = f.Close() // read only
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"/lib/libssl.so.1 inside the root", "/lib/x86_64-linux-gnu/libssl.so.3 inside", "/usr/lib/libssl.so.1 inside the root",
		"/usr/lib/x86_64-linux-gnu/libssl.so.3 inside", "/usr/local/lib/libgnutls.so.30 inside",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, not %q", got, want)
	}
	if err := libraryFiles(proc, pid+1, nil); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
}

// What may be a program is found once, by whatever names, and no link leads out of the root.
func TestProgramFiles(t *testing.T) {
	proc := t.TempDir()
	const pid = 7
	root := filepath.Join(proc, strconv.Itoa(pid), "root")
	for _, path := range []string{"server", "app/server", "usr/bin/tool", "opt/other"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(proc, "outside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"bin": "usr/bin", "app/again": "server", "app/outside": "../../../outside"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(root, "usr/bin/tool"), filepath.Join(root, "usr/bin/alias")); err != nil {
		t.Fatal(err)
	}
	var got []string
	searched, err := programFiles(proc, pid, func(f *os.File, path string) {
		got = append(got, filepath.Dir(path))
		_ = f.Close() // read only
	})
	if err != nil || !searched {
		t.Fatal(searched, err)
	}
	slices.Sort(got)
	if want := []string{"/", "/app", "/usr/bin"}; !slices.Equal(got, want) {
		t.Errorf("found files in %q, not in %q", got, want)
	}
	if searched, err := programFiles(proc, pid+1, nil); err != nil || searched {
		t.Errorf("a process that has ended: %v, %v", searched, err)
	}
}
