package read

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is looked at in the file system of a container.
const (
	maxNames    = 1 << 15 // names of a directory
	maxPrograms = 1 << 12 // files that may be programs
)

// libraryDirs are where loaders look by default; below each also directories of an architecture.
func libraryDirs() []string {
	return []string{"usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64", "lib", "lib64"}
}

// isLibrary says whether a file's name is that of a library that we can read.
func isLibrary(name string) bool {
	return slices.ContainsFunc([]string{"libssl.so", "libgnutls.so", "libssl3.so"}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

// isArchitecture says whether a directory holds the libraries of an architecture: x86_64-linux-gnu.
func isArchitecture(name string) bool {
	return strings.HasSuffix(name, "-linux-gnu") || strings.HasSuffix(name, "-linux-musl")
}

// programDirs are where the programs of images lie; one of a directory that is not there costs nothing.
func programDirs() []string {
	return []string{".", "app", "usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin", "bin", "sbin"}
}

// programFiles opens what may be programs in the file system that a process of a container sees, each file once, for
// found, which closes them. Links of the container end inside of it. searched is false where the process has ended.
func programFiles(proc string, pid uint32, found func(f *os.File, path string)) (searched bool, err error) {
	root, err := rootOf(proc, pid)
	if root == nil {
		return false, err
	}
	defer root.Close() //nolint:errcheck // read only
	seen := map[fileKey]bool{}
	for _, dir := range programDirs() {
		for _, name := range namesIn(root, dir) {
			if len(seen) >= maxPrograms {
				return true, nil // what is beyond is covered when it is executed
			}
			openRegular(root, filepath.Join(dir, name), func(f *os.File, path string) {
				key, err := keyOf(f)
				if err != nil || seen[key] {
					_ = f.Close() // read only
					return
				}
				seen[key] = true
				found(f, path)
			})
		}
	}
	return true, nil
}

// rootOf opens the file system that a process sees, nil where it has ended.
func rootOf(proc string, pid uint32) (*os.File, error) {
	root, err := os.OpenFile(filepath.Join(proc, strconv.FormatUint(uint64(pid), 10), "root"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil //nolint:nilnil // there is none to open
	}
	if err != nil {
		return nil, fmt.Errorf("opening the root of process %d: %w", pid, err)
	}
	return root, nil
}

// libraryFiles opens the TLS libraries in the file system that a process of a container sees, for found, which closes
// them. Links of the container end inside of it.
func libraryFiles(proc string, pid uint32, found func(f *os.File, path string)) error {
	root, err := rootOf(proc, pid)
	if root == nil {
		return err
	}
	defer root.Close() //nolint:errcheck // read only
	for _, dir := range libraryDirs() {
		for _, name := range namesIn(root, dir) {
			path := filepath.Join(dir, name)
			if isLibrary(name) {
				openRegular(root, path, found)
			}
			if !isArchitecture(name) {
				continue
			}
			for _, name := range slices.DeleteFunc(namesIn(root, path), func(n string) bool { return !isLibrary(n) }) {
				openRegular(root, filepath.Join(path, name), found)
			}
		}
	}
	return nil
}

// inRoot opens a path below a root, which no link leads out of.
func inRoot(root *os.File, path string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), path, how)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// namesIn lists a directory; one that is not there, or cannot be read, has none: what lies in it is covered when a
// process has it mapped.
func namesIn(root *os.File, dir string) []string {
	d, err := inRoot(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer d.Close() //nolint:errcheck // read only
	names, err := d.Readdirnames(maxNames)
	if err != nil {
		return nil
	}
	return names
}

// openRegular opens a file for found if it is a regular one: to open a device or a pipe can have effects.
func openRegular(root *os.File, path string, found func(f *os.File, path string)) {
	at, err := inRoot(root, path, unix.O_PATH)
	if err != nil {
		return // a link to nothing
	}
	defer at.Close() //nolint:errcheck // read only
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(at.Fd())))
	if err != nil {
		return // it cannot be read: covered, or told, when a process has it mapped
	}
	found(f, "/"+path)
}
