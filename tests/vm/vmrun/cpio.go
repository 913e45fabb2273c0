package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// File type bits of a cpio header (those of stat.st_mode).
const (
	cpioDir     = 0o040000
	cpioChar    = 0o020000
	cpioRegular = 0o100000
	cpioSymlink = 0o120000
)

// archive writes an initramfs: the cpio "newc" format that the kernel unpacks into its root file system. Paths may
// have a leading slash; parent directories appear by themselves. After an error nothing more is written, and close
// returns that error.
type archive struct {
	w     *bufio.Writer
	size  int64 // bytes written, for the padding to multiples of four
	inode int
	seen  map[string]bool // directories and files that exist, without leading slash
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), seen: map[string]bool{}}
}

// dir adds a directory with mode 0755 and its parents, those that are not there yet.
func (a *archive) dir(name string) {
	name = guestPath(name)
	if name == "" || a.seen[name] {
		return
	}
	a.parents(name)
	a.entry(name, cpioDir|0o755, nil, device{})
}

// file adds a regular file.
func (a *archive) file(name string, perm fs.FileMode, data []byte) {
	name = guestPath(name)
	a.parents(name)
	a.entry(name, cpioRegular|uint32(perm.Perm()), data, device{})
}

// symlink adds a symbolic link that contains target.
func (a *archive) symlink(name, target string) {
	name = guestPath(name)
	a.parents(name)
	a.entry(name, cpioSymlink|0o777, []byte(target), device{})
}

// device is the number of a device file.
type device struct{ major, minor int }

// charDevice adds a character device readable by root.
func (a *archive) charDevice(name string, dev device) {
	name = guestPath(name)
	a.parents(name)
	a.entry(name, cpioChar|0o600, nil, dev)
}

// tree copies a file or a directory of the host with all below it. A symbolic link below src stays a link; src itself
// is followed. Sockets, pipes and devices are left out.
func (a *archive) tree(src, dst string) error {
	real, err := filepath.EvalSymlinks(src)
	if err != nil {
		return fmt.Errorf("copying %s into the guest: %w", src, err)
	}
	err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(real, p)
		if err != nil {
			return err
		}
		return a.hostEntry(p, path.Join(dst, filepath.ToSlash(rel)), d)
	})
	if err != nil {
		return fmt.Errorf("copying %s into the guest: %w", src, err)
	}
	return nil
}

func (a *archive) hostEntry(src, dst string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		a.dir(dst)
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		a.symlink(dst, target)
	case d.Type().IsRegular():
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(src)
		if err != nil {
			return err
		}
		a.file(dst, info.Mode(), data)
	}
	return nil
}

// close ends the archive and returns the first error of all that was written.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil, device{})
	if a.err == nil {
		a.err = a.w.Flush()
	}
	if a.err != nil {
		return fmt.Errorf("writing the initramfs: %w", a.err)
	}
	return nil
}

func (a *archive) parents(name string) {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		a.dir(name[:i])
	}
}

// entry writes one header of thirteen fields of eight hexadecimal digits, the name with its NUL, and the data.
func (a *archive) entry(name string, mode uint32, data []byte, dev device) {
	if a.err == nil && uint64(len(data)) > math.MaxUint32 {
		a.err = errors.New(name + " is larger than 4 GiB")
	}
	a.seen[name] = true
	a.inode++
	const uid, gid, links, mtime, onMajor, onMinor, check = 0, 0, 1, 0, 0, 0, 0
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", a.inode, mode, uid, gid, links, mtime,
		len(data), onMajor, onMinor, dev.major, dev.minor, len(name)+1, check)
	a.write([]byte(header + name + "\x00"))
	a.pad()
	a.write(data)
	a.pad()
}

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(p)
	a.size += int64(n)
	a.err = err
}

func (a *archive) pad() { a.write(make([]byte, -a.size&3)) }

// guestPath is the form of a path inside the archive: clean, without leading slash, "" for the root.
func guestPath(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }
