// Package cgroup owns what the agent knows of the cgroup v2 hierarchy: where it is mounted (alone, or beside v1 on the
// hybrid layout), which directory has which id, and which of them are containers. It imports nothing of this module.
//
// Paths are those of the hierarchy, with a leading slash and without a trailing one ("/default/demo"; the root is "/"),
// as /proc/PID/cgroup shows them to a process of the initial cgroup namespace, and as the kernel programs see them.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrNoHierarchy is returned where no cgroup v2 hierarchy is mounted.
var ErrNoHierarchy = errors.New("no cgroup v2 hierarchy is mounted")

// ErrOutside is returned for a path that is not below what the mount shows: the caller is in a cgroup namespace of its
// own, or only a part of the hierarchy is mounted.
var ErrOutside = errors.New("cgroup is outside the mounted part of the hierarchy")

// Hierarchy is a mounted cgroup v2 hierarchy.
type Hierarchy struct {
	dir  string // mount point
	base string // path of the cgroup at the mount point, as /proc/PID/cgroup would show it to the caller; mostly "/"
}

// Cgroup is one directory of the hierarchy.
type Cgroup struct {
	Path        string // below the root of the hierarchy
	ID          uint64 // inode of the directory: what bpf_get_current_cgroup_id returns
	ContainerID string // from the name, see ContainerID; "" where the name tells none
}

// Find returns the cgroup v2 hierarchy that is mounted in the caller's mount namespace.
func Find() (Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Hierarchy{}, fmt.Errorf("finding the cgroup hierarchy: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	return FindIn(f)
}

// FindIn is Find on the text of a /proc/PID/mountinfo. Of several mounts it takes one that shows the whole hierarchy,
// and of several of those the last one, which is the one on top where they share a mount point.
func FindIn(mountinfo io.Reader) (Hierarchy, error) {
	var best Hierarchy
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20) // overlay mounts make long lines
	for lines.Scan() {
		h, ok := parseMount(lines.Text())
		if ok && (best.dir == "" || h.base == "/" || best.base != "/") {
			best = h
		}
	}
	if err := lines.Err(); err != nil {
		return Hierarchy{}, fmt.Errorf("reading mountinfo: %w", err)
	}
	if best.dir == "" {
		return Hierarchy{}, fmt.Errorf("reading mountinfo: %w", ErrNoHierarchy)
	}
	return best, nil
}

// At returns the hierarchy mounted at dir, for a caller that was told where it is. The mount must show the whole of it.
func At(dir string) (Hierarchy, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return Hierarchy{}, fmt.Errorf("opening the cgroup hierarchy at %s: %w", dir, err)
	}
	const cgroup2Magic = 0x63677270 // CGROUP2_SUPER_MAGIC
	if stat.Type != cgroup2Magic {
		return Hierarchy{}, fmt.Errorf("opening the cgroup hierarchy at %s: %w there", dir, ErrNoHierarchy)
	}
	return Hierarchy{dir: filepath.Clean(dir), base: "/"}, nil
}

// parseMount reads one line of mountinfo: ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS.
func parseMount(line string) (Hierarchy, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields := strings.Fields(before)
	if !ok || len(fields) < 6 || !strings.HasPrefix(after, "cgroup2 ") {
		return Hierarchy{}, false
	}
	return Hierarchy{dir: unescape(fields[4]), base: unescape(fields[3])}, true
}

// unescape undoes the octal escapes (\040) of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Dir returns the mount point.
func (h Hierarchy) Dir() string { return h.dir }

// DirOf returns the directory of the cgroup at p, or ErrOutside.
func (h Hierarchy) DirOf(p string) (string, error) {
	if !strings.HasPrefix(p, "/") {
		return "", fmt.Errorf("locating cgroup %q: the path is not absolute", p)
	}
	rest := p
	if h.base != "/" {
		below, ok := strings.CutPrefix(p, h.base)
		if !ok || (below != "" && below[0] != '/') {
			return "", fmt.Errorf("locating cgroup %q: %w", p, ErrOutside)
		}
		rest = below
	}
	// A cgroup namespace writes what is above its root as "/..". Nothing else can hold that component: mkdir refuses it.
	if slices.Contains(strings.Split(rest, "/"), "..") {
		return "", fmt.Errorf("locating cgroup %q: %w", p, ErrOutside)
	}
	return filepath.Join(h.dir, rest), nil
}

// ID returns the id of the cgroup at p. It fails with fs.ErrNotExist when there is no such cgroup (any more).
func (h Hierarchy) ID(p string) (uint64, error) {
	dir, err := h.DirOf(p)
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, fmt.Errorf("reading the id of cgroup %q: %w", p, err)
	}
	return inode(info)
}

func inode(info fs.FileInfo) (uint64, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return 0, fmt.Errorf("reading the id of cgroup %q: not a directory", info.Name())
	}
	return stat.Ino, nil
}

// Populated says whether there are processes in the cgroup at p or below it.
func (h Hierarchy) Populated(p string) (bool, error) {
	dir, err := h.DirOf(p)
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return false, fmt.Errorf("reading whether cgroup %q is populated: %w", p, err)
	}
	return strings.Contains(string(text), "populated 1"), nil
}

// Path returns the path of the cgroup with this id. It walks the hierarchy: not for hot paths.
func (h Hierarchy) Path(id uint64) (string, error) {
	found := ""
	err := h.walk(func(c Cgroup) error {
		if c.ID != id {
			return nil
		}
		found = c.Path
		return fs.SkipAll
	})
	if err != nil {
		return "", err
	}
	if found == "" {
		return "", fmt.Errorf("finding the cgroup with id %d: %w", id, fs.ErrNotExist)
	}
	return found, nil
}

// Containers returns the cgroups that are containers, in the order of their paths: those whose name holds a container
// id, and the children of parents ("/default"). It is the rule by which the kernel programs take a new cgroup for a
// container. What lies inside a container belongs to it, whatever its name.
func (h Hierarchy) Containers(parents []string) ([]Cgroup, error) {
	var found []Cgroup
	err := h.walk(func(c Cgroup) error {
		if c.ContainerID == "" && !slices.Contains(parents, path.Dir(c.Path)) {
			return nil
		}
		found = append(found, c)
		return fs.SkipDir
	})
	return found, err
}

// walk visits every cgroup but the root, parents first. Cgroups that go away meanwhile are left out.
func (h Hierarchy) walk(visit func(Cgroup) error) error {
	err := filepath.WalkDir(h.dir, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV):
			return nil
		case err != nil:
			return err
		case !entry.IsDir() || dir == h.dir:
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return fs.SkipDir
		} else if err != nil {
			return err
		}
		id, err := inode(info)
		if err != nil {
			return err
		}
		p := path.Join(h.base, strings.TrimPrefix(dir, h.dir))
		return visit(Cgroup{Path: p, ID: id, ContainerID: ContainerID(path.Base(p))})
	})
	if err != nil {
		return fmt.Errorf("walking the cgroup hierarchy at %s: %w", h.dir, err)
	}
	return nil
}
