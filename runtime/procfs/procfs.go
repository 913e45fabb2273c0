// Package procfs owns what the agent reads from /proc about processes: the few facts that say which container a process
// belongs to and how it came into it, and the reasoning that draws an origin from them (Infer). Of this module it
// imports runtime/cgroup only.
//
// Everything a process says of itself (its command line, its name, its executable's path) is hostile input.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/runtime/cgroup"
)

// ErrGone is returned for a process that ended before it could be read.
var ErrGone = errors.New("process is gone")

// Sizes of what is read of a process.
const (
	maxFile    = 64 << 10 // of stat, status, cgroup: the kernel writes less than 4 KiB, and a hybrid cgroup file not much more
	MaxCmdline = 4 << 10  // bytes of a command line that are kept
)

// FS is a proc file system.
type FS struct{ dir string }

// New returns the proc file system mounted at dir ("/proc"). The numbers in it are those of the PID namespace it was
// mounted in.
func New(dir string) FS { return FS{dir: filepath.Clean(dir)} }

// Namespaces are the inode numbers of a process's namespaces; 0 for one that cannot be read, as of a zombie.
type Namespaces struct {
	Mnt uint64
	Net uint64
	PID uint64
}

// Process is a process as /proc shows it. All of it was read from the process that had this PID at first, even if the
// number was given to another one meanwhile; but not at one instant.
type Process struct {
	PID        uint32
	PPID       uint32 // of the parent it has now: the one that reaps it, which need not have made it; 0: none visible
	Session    uint32 // PID of the process that began its session, alive or not; 0: not visible
	StartTicks uint64 // start time in clock ticks (10 ms) since boot
	State      byte   // R, S, D, Z, …
	NSPID      []uint32
	Cgroup     string // in the v2 hierarchy, see cgroup.Parse
	Exe        string // path of the executable as the process's own root shows it; "" where it cannot be read
	Namespaces Namespaces
}

// PIDs returns the processes there are, in no order that means anything.
func (f FS) PIDs() ([]uint32, error) { return numbers(f.dir, "listing processes") }

// Threads returns the thread ids of a process.
func (f FS) Threads(pid uint32) ([]uint32, error) {
	ids, err := numbers(filepath.Join(f.dir, strconv.FormatUint(uint64(pid), 10), "task"), "listing threads")
	if gone(err) {
		return nil, fmt.Errorf("listing threads of %d: %w", pid, ErrGone)
	}
	return ids, err
}

func numbers(dir, doing string) ([]uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { _ = d.Close() }() // read only
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	var ids []uint32
	for _, name := range names {
		if id, err := strconv.ParseUint(name, 10, 32); err == nil {
			ids = append(ids, uint32(id))
		}
	}
	return ids, nil
}

// gone reports whether an error means that the process ended: the entry is missing, or reading it says ESRCH.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// Process reads one process. It returns ErrGone when the process ended meanwhile.
func (f FS) Process(pid uint32) (Process, error) {
	// Names below an open directory of /proc stay those of one process: when it ends they fail, also if its number is
	// given away again.
	dir, err := os.OpenRoot(filepath.Join(f.dir, strconv.FormatUint(uint64(pid), 10)))
	if err != nil {
		return Process{}, wrap(pid, err)
	}
	defer func() { _ = dir.Close() }() // read only
	p := Process{PID: pid}
	for _, part := range []struct {
		name string
		read func(*Process, []byte) error
	}{
		{"stat", (*Process).readStat},
		{"status", (*Process).readStatus},
		{"cgroup", (*Process).readCgroup},
	} {
		text, err := readFile(dir, part.name)
		if err == nil {
			err = part.read(&p, text)
		}
		if err != nil {
			return Process{}, wrap(pid, err)
		}
	}
	// A link that cannot be read (zombie, kernel thread) leaves its zero, by which nothing can be proved.
	p.Exe, _ = dir.Readlink("exe")
	p.Namespaces.Mnt, _ = nsInode(dir, "mnt")
	p.Namespaces.Net, _ = nsInode(dir, "net")
	p.Namespaces.PID, _ = nsInode(dir, "pid")
	return p, nil
}

func wrap(pid uint32, err error) error {
	if gone(err) {
		err = ErrGone
	}
	return fmt.Errorf("reading process %d: %w", pid, err)
}

func readFile(dir *os.Root, name string) ([]byte, error) {
	file, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// readStat reads "PID (COMM) STATE PPID PGRP SESSION …". COMM is chosen by the process and may hold spaces and
// parentheses, so that the fields are counted from the last one.
func (p *Process) readStat(text []byte) error {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	const startTime = 19 // field 22 of the file, counted from the state
	if end < 0 || len(fields) <= startTime {
		return fmt.Errorf("parsing stat: %d fields after the name", len(fields))
	}
	p.State = fields[0][0]
	var err error
	if p.PPID, err = number(fields[1]); err != nil {
		return fmt.Errorf("parsing stat: %w", err)
	}
	if p.Session, err = number(fields[3]); err != nil {
		return fmt.Errorf("parsing stat: %w", err)
	}
	if p.StartTicks, err = strconv.ParseUint(fields[startTime], 10, 64); err != nil {
		return fmt.Errorf("parsing stat: %w", err)
	}
	return nil
}

// number reads a process id. Ids that the reader's PID namespace does not show are 0, or negative for kernel threads'.
func number(s string) (uint32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	return uint32(max(n, 0)), err
}

// readStatus reads the line NSpid: the process's numbers from the reader's PID namespace to its own. Name, the only
// text of the process in the file, is the first line and has its newlines escaped.
func (p *Process) readStatus(text []byte) error {
	for line := range strings.Lines(string(text)) {
		list, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		for field := range strings.FieldsSeq(list) {
			id, err := number(field)
			if err != nil {
				return fmt.Errorf("parsing status: %w", err)
			}
			p.NSPID = append(p.NSPID, id)
		}
		break
	}
	if len(p.NSPID) > 0 {
		return nil
	}
	return errors.New("parsing status: no number in NSpid")
}

func (p *Process) readCgroup(text []byte) error {
	var err error
	p.Cgroup, err = cgroup.Parse(string(text))
	return err
}

// nsInode reads a link such as "net:[4026531840]".
func nsInode(dir *os.Root, kind string) (uint64, error) {
	link, err := dir.Readlink("ns/" + kind)
	if err != nil {
		return 0, err
	}
	text, ok := strings.CutPrefix(link, kind+":[")
	inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("parsing the link %q: not a namespace", link)
	}
	return inode, nil
}

// NetNS returns the inode of a process's network namespace without reading the rest of it.
func (f FS) NetNS(pid uint32) (uint64, error) {
	dir, err := os.OpenRoot(filepath.Join(f.dir, strconv.FormatUint(uint64(pid), 10)))
	if err != nil {
		return 0, wrap(pid, err)
	}
	defer func() { _ = dir.Close() }() // read only
	inode, err := nsInode(dir, "net")
	if err != nil {
		return 0, wrap(pid, err)
	}
	return inode, nil
}

// Cmdline returns the arguments of a process, of at most MaxCmdline bytes in sum. The process can change them at will:
// they serve a report, never a decision.
func (f FS) Cmdline(pid uint32) ([]string, error) {
	file, err := os.Open(filepath.Join(f.dir, strconv.FormatUint(uint64(pid), 10), "cmdline"))
	if err != nil {
		return nil, wrap(pid, err)
	}
	defer func() { _ = file.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(file, MaxCmdline))
	if err != nil {
		return nil, wrap(pid, err)
	}
	text = bytes.TrimSuffix(text, []byte{0})
	if len(text) == 0 {
		return []string{}, nil // a kernel thread or a zombie
	}
	return strings.Split(string(text), "\x00"), nil
}

// Snapshot reads every process, in the order of PIDs. Those that end meanwhile are left out; what else cannot be read
// of one process is joined to the error, and the snapshot holds the others all the same.
func (f FS) Snapshot() ([]Process, error) {
	pids, err := f.PIDs()
	if err != nil {
		return nil, err
	}
	slices.Sort(pids)
	processes := make([]Process, 0, len(pids))
	var errs []error
	for _, pid := range pids {
		p, err := f.Process(pid)
		switch {
		case err == nil:
			processes = append(processes, p)
		case !errors.Is(err, ErrGone):
			errs = append(errs, err)
		}
	}
	return processes, errors.Join(errs...)
}
