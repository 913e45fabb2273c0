package cgroup_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/cgroup"
)

const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func mountLine(root, at, fstype string) string {
	return "41 31 0:38 " + root + " " + at + " rw,relatime shared:9 - " + fstype + " " + fstype + " rw\n"
}

func TestFindIn(t *testing.T) {
	t.Parallel()
	v1 := mountLine("/", "/sys/fs/cgroup/memory", "cgroup")
	for _, tc := range []struct{ name, mounts, dir string }{
		{"pure v2", mountLine("/", "/sys/fs/cgroup", "cgroup2"), "/sys/fs/cgroup"},
		{"hybrid", v1 + mountLine("/", "/sys/fs/cgroup/unified", "cgroup2"), "/sys/fs/cgroup/unified"},
		{"the one on top", mountLine("/", "/a", "cgroup2") + mountLine("/", "/b", "cgroup2"), "/b"},
		{"the whole rather than a part", mountLine("/", "/a", "cgroup2") + mountLine("/pod", "/b", "cgroup2"), "/a"},
		{"a part", v1 + mountLine("/../..", "/host", "cgroup2"), "/host"},
		{"space in the path", mountLine("/", `/my\040cgroups`, "cgroup2"), "/my cgroups"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, err := cgroup.FindIn(strings.NewReader(tc.mounts))
			if err != nil {
				t.Fatal(err)
			}
			if h.Dir() != tc.dir {
				t.Errorf("found %s, want %s", h.Dir(), tc.dir)
			}
		})
	}
	if _, err := cgroup.FindIn(strings.NewReader(v1)); !errors.Is(err, cgroup.ErrNoHierarchy) {
		t.Errorf("with v1 only: %v, want ErrNoHierarchy", err)
	}
}

func TestDirOfMindsCgroupNamespaces(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, root, path, dir string }{
		{"whole", "/", "/default/demo", "/cg/default/demo"},
		{"root", "/", "/", "/cg"},
		{"part", "/pod", "/pod/a", "/cg/a"},
		{"the part itself", "/pod", "/pod", "/cg"},
		{"beside the part", "/pod", "/pods/a", ""},
		{"host's hierarchy seen from a namespace", "/../..", "/../../kubepods/a", "/cg/kubepods/a"},
		{"above the namespace", "/", "/../other", ""},
		{"own cgroup under the host's mount", "/../..", "/a", ""},
		{"dots that climb", "/pod", "/pod/../x", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, err := cgroup.FindIn(strings.NewReader(mountLine(tc.root, "/cg", "cgroup2")))
			if err != nil {
				t.Fatal(err)
			}
			dir, err := h.DirOf(tc.path)
			if dir != tc.dir || (tc.dir == "") != errors.Is(err, cgroup.ErrOutside) {
				t.Errorf("DirOf(%q) = %q, %v; want %q", tc.path, dir, err, tc.dir)
			}
		})
	}
}

// A directory stands in for the mounted hierarchy: the walk and the ids need nothing but inodes.
func tree(t *testing.T, paths ...string) cgroup.Hierarchy {
	t.Helper()
	dir := t.TempDir()
	for _, p := range paths {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h, err := cgroup.FindIn(strings.NewReader(mountLine("/", dir, "cgroup2")))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestContainers(t *testing.T) {
	t.Parallel()
	h := tree(t, "/default/demo/inner", "/system.slice/sshd.service", "/kubepods/pod1/"+hex+"/"+hex,
		"/kubepods/pod1/cri-containerd-"+strings.ReplaceAll(hex, "0", "f")+".scope", "/machine/libpod-conmon-"+hex+".scope")
	found, err := h.Containers([]string{"/default"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		got = append(got, c.Path)
		if id, err := h.ID(c.Path); err != nil || id != c.ID || id == 0 {
			t.Errorf("%s: id %d, and ID says %d, %v", c.Path, c.ID, id, err)
		}
		if p, err := h.Path(c.ID); err != nil || p != c.Path {
			t.Errorf("id %d has path %q, %v; want %q", c.ID, p, err, c.Path)
		}
	}
	want := []string{
		"/default/demo", "/kubepods/pod1/" + hex,
		"/kubepods/pod1/cri-containerd-" + strings.ReplaceAll(hex, "0", "f") + ".scope",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	if _, err := h.ID("/default/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("id of a missing cgroup: %v", err)
	}
	if _, err := h.Path(1 << 62); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("path of a missing id: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, path string }{
		{"pure v2", "0::/default/demo\n", "/default/demo"},
		{"hybrid", "4:memory:/a\n1:name=systemd:/b\n0::/c\n", "/c"},
		{"colons in the name", "0::/a:b::c\n", "/a:b::c"},
		{"above the namespace", "0::/../other\n", "/../other"},
		{"removed", "0::/a (deleted)\n", "/a (deleted)"},
		{"v1 only", "4:memory:/a\n", ""},
		{"v1 name that looks like v2", "4:memory:/0::/x\n", ""},
		{"empty", "", ""},
		{"no path", "0::\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := cgroup.Parse(tc.text)
			if got != tc.path || (err == nil) != (tc.path != "") {
				t.Errorf("got %q, %v; want %q", got, err, tc.path)
			}
		})
	}
}

func TestContainerID(t *testing.T) {
	t.Parallel()
	for leaf, want := range map[string]string{
		hex:                                hex,
		"cri-containerd-" + hex + ".scope": hex,
		"docker-" + hex + ".scope":         hex,
		"crio-" + hex:                      hex,
		"crio-conmon-" + hex + ".scope":    "",
		hex + "0":                          "", // 65 digits
		hex[1:]:                            "",
		strings.ToUpper(hex):               "",
		"demo":                             "",
		"":                                 "",
		"0" + "-" + hex:                    hex,
	} {
		if got := cgroup.ContainerID(leaf); got != want {
			t.Errorf("ContainerID(%q) = %q, want %q", leaf, got, want)
		}
	}
}

func TestTop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, path, wanted, id, top string
		ok                          bool
	}{
		{"itself", "/default/demo", "/default/demo", "demo", "/default/demo", true},
		{"moved inside", "/default/demo/init.scope", "/default/demo", "demo", "/default/demo", true},
		{"below the root of another driver", "/x/default/demo/a", "/default/demo", "demo", "/x/default/demo", true},
		{"systemd", "/s.slice/cri-containerd-" + hex + ".scope/init", "s.slice:cri-containerd:" + hex, hex, "/s.slice/cri-containerd-" + hex + ".scope", true},
		{"systemd, short name", "/s.slice/ctr-demo.scope/init", "s.slice:ctr:demo", "demo", "/s.slice/ctr-demo.scope", true},
		{"nested of the same id", "/default/demo/demo", "", "demo", "/default/demo", true},
		{"neither", "/elsewhere/a", "/default/demo", "demo", "/elsewhere/a", false},
		{"root is no container", "/a/b", "/", "demo", "/a/b", false},
		{"no spec", "/a/b", "", "", "/a/b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, ok := cgroup.Top(tc.path, tc.wanted, tc.id)
			if got != tc.top || ok != tc.ok {
				t.Errorf("Top = %q, %v; want %q, %v", got, ok, tc.top, tc.ok)
			}
		})
	}
}
