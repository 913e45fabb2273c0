package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// others are the programs, maps and links that somebody else holds: by a descriptor, by a pin in another BPF file system, or
// through one that is held.
type others struct {
	programs map[ebpf.ProgramID]bool
	maps     map[ebpf.MapID]bool
	links    map[link.ID]bool
}

// findOthers looks at all processes and all BPF file systems but the test's own.
func findOthers(own Place) (*others, error) {
	o := &others{programs: map[ebpf.ProgramID]bool{}, maps: map[ebpf.MapID]bool{}, links: map[link.ID]bool{}}
	if err := o.descriptors(own.Cgroup); err != nil {
		return nil, err
	}
	roots, err := fileSystems()
	if err != nil {
		return nil, err
	}
	for _, at := range roots {
		if at != own.Pins {
			if err := o.pins(at); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// fileSystems lists where BPF file systems are mounted.
func fileSystems() (roots []string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		if strings.HasPrefix(after, "bpf ") {
			roots = append(roots, strings.Fields(before)[4])
		}
	}
	return roots, nil
}

// descriptors takes in what processes hold. One that ends meanwhile holds nothing.
func (o *others) descriptors(own string) error {
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return err
	}
	for _, file := range files {
		if to, err := os.Readlink(file); err != nil || !strings.HasPrefix(to, "anon_inode:bpf") {
			continue
		}
		text, err := os.ReadFile(strings.Replace(file, "/fd/", "/fdinfo/", 1))
		if err != nil || ofTest(strings.Split(file, "/")[2], own) {
			continue
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				continue
			}
			switch key {
			case "prog_id":
				o.program(ebpf.ProgramID(id))
			case "map_id":
				o.table(ebpf.MapID(id))
			case "link_id":
				o.links[link.ID(id)] = true
			}
		}
	}
	return nil
}

// ofTest says whether a process is this one, a child of it, or in one of the test's containers.
func ofTest(pid, cgroup string) bool {
	if pid == strconv.Itoa(os.Getpid()) {
		return true
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil || strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
		return true // the one that is not there any more holds nothing
	}
	where, err := os.ReadFile("/proc/" + pid + "/cgroup")
	return err != nil || cgroup != "" && strings.Contains(string(where), "/"+cgroup+"/")
}

// pins takes in what is pinned in a BPF file system.
func (o *others) pins(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if l, err := link.LoadPinnedLink(path, nil); err == nil {
			if info, err := l.Info(); err == nil {
				o.links[info.ID] = true
				o.program(info.Program)
			}
			return l.Close()
		}
		if m, err := ebpf.LoadPinnedMap(path, nil); err == nil {
			if info, err := m.Info(); err == nil {
				if id, ok := info.ID(); ok {
					o.table(id)
				}
			}
			return m.Close()
		}
		if p, err := ebpf.LoadPinnedProgram(path, nil); err == nil {
			if info, err := p.Info(); err == nil {
				if id, ok := info.ID(); ok {
					o.program(id)
				}
			}
			return p.Close()
		}
		return nil
	})
}

// program takes in a program and its maps.
func (o *others) program(id ebpf.ProgramID) {
	if o.programs[id] {
		return
	}
	o.programs[id] = true
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return // it went meanwhile
	}
	defer func() { _ = p.Close() }()
	if info, err := p.Info(); err == nil {
		used, _ := info.MapIDs()
		for _, id := range used {
			o.table(id)
		}
	}
}

// table takes in a map and the maps in it.
func (o *others) table(id ebpf.MapID) {
	if o.maps[id] {
		return
	}
	o.maps[id] = true
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return // it went meanwhile
	}
	defer func() { _ = m.Close() }()
	if m.Type() != ebpf.ArrayOfMaps && m.Type() != ebpf.HashOfMaps {
		return
	}
	key, inner := make([]byte, m.KeySize()), uint32(0)
	for it := m.Iterate(); it.Next(&key, &inner); {
		o.table(ebpf.MapID(inner))
	}
}

// hold says whether a thing of an inventory is somebody else's.
func (o *others) hold(thing string) bool {
	var kind string
	var id uint32
	if n, _ := fmt.Sscanf(thing, "%s %d", &kind, &id); n != 2 {
		return false
	}
	switch kind {
	case "program", "attached":
		return o.programs[ebpf.ProgramID(id)]
	case "map":
		return o.maps[ebpf.MapID(id)]
	case "link":
		return o.links[link.ID(id)]
	}
	return false
}
