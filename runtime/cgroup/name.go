package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrNoUnified is returned for a /proc/PID/cgroup without a line of the v2 hierarchy.
var ErrNoUnified = errors.New("no cgroup v2 line")

const containerIDLen = 64 // hexadecimal digits: a SHA-256, as every runtime but a bare ctr uses

// Parse returns the path in the v2 hierarchy from the text of a /proc/PID/cgroup. Only the line "0::PATH" counts: on
// the hybrid layout the others are v1 hierarchies. The path is relative to the reader's cgroup namespace: one that
// begins with "/.." lies above it. Of a process whose cgroup was removed it ends in " (deleted)", which is kept, since
// a directory may bear that name too: Hierarchy.ID tells them apart.
func Parse(procCgroup string) (string, error) {
	for line := range strings.Lines(procCgroup) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			if !strings.HasPrefix(p, "/") {
				return "", fmt.Errorf("parsing the cgroup line %q: the path is not absolute", line)
			}
			return p, nil
		}
	}
	return "", fmt.Errorf("parsing cgroup lines: %w", ErrNoUnified)
}

// ContainerID returns the container id that the name of a cgroup holds: exactly 64 lower-case hexadecimal digits
// with anything else around them, as in "cri-containerd-<id>.scope", "docker-<id>.scope" or the bare id. It returns
// "" for other names, and for those of conmon, which watches a container of CRI-O or Podman from outside.
func ContainerID(leaf string) string {
	run := 0
	for i := 0; i <= len(leaf); i++ {
		if i < len(leaf) && (leaf[i] >= '0' && leaf[i] <= '9' || leaf[i] >= 'a' && leaf[i] <= 'f') {
			run++
			continue
		}
		if run == containerIDLen && !strings.HasSuffix(leaf[:i-run], "conmon-") {
			return leaf[i-run : i]
		}
		run = 0
	}
	return ""
}

// Within reports whether the cgroup at p is parent or below it.
func Within(p, parent string) bool {
	return p == parent || parent == "/" || strings.HasPrefix(p, parent+"/")
}

// Top returns the path of a container's own cgroup from that of one of its processes, which may have moved to a cgroup
// that the container made inside its own (systemd as entrypoint does). wanted is cgroupsPath of the OCI spec, either a
// path or, with the systemd driver, SLICE:PREFIX:NAME; id is the container's. It returns p and false where p has
// nothing of either: the runtime has another way to name cgroups, or the process is not of this container.
func Top(p, wanted, id string) (string, bool) {
	if strings.HasPrefix(wanted, "/") {
		if wanted = path.Clean(wanted); wanted != "/" && Within(p, wanted) {
			return wanted, true
		}
	}
	names := []string{id}
	if part := strings.Split(wanted, ":"); len(part) == 3 {
		names = append(names, part[1]+"-"+part[2]+".scope", part[2])
	}
	for end := 1; end <= len(p); end++ {
		if end < len(p) && p[end] != '/' {
			continue
		}
		leaf := path.Base(p[:end])
		for _, name := range names {
			if name != "" && (leaf == name || ContainerID(leaf) == name) {
				return p[:end], true
			}
		}
	}
	return p, false
}
