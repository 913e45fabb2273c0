package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// release is a containerd to test with.
type release struct {
	name   string
	nri    bool
	config int                     // version of its configuration
	dir    func(*testing.T) string // of its programs; "" finds them in PATH
}

var (
	debian  = release{name: "1.6", config: 2, dir: func(*testing.T) string { return "" }}
	current = release{name: "2.3", nri: true, config: 3, dir: built}
)

// between is containerd 1.7, which is tested where somebody has built it: it is between the others, and a module of the past
// that would need a minute and a half for it.
const between = "SALLYPORT_CONTAINERD_1_7" // names the folder of its programs

// releases are those to test with. A guest can build none.
func releases() []release {
	all := []release{debian}
	if testutil.InVM() {
		return all
	}
	if dir := os.Getenv(between); dir != "" {
		all = append(all, release{name: "1.7", nri: true, config: 2, dir: func(*testing.T) string { return dir }})
	}
	return append(all, current)
}

// hooked makes runc call the agent's hook.
func hooked(args ...string) func(*node) {
	return func(n *node) { n.hook = append([]string{}, args...) }
}

// calls makes a runtime wait for the agent: by NRI, or else by the hook.
func (r release) calls() func(*node) {
	if r.nri {
		return func(*node) {}
	}
	return hooked("--on-failure=refuse", "--timeout=20s")
}

// forEach runs a test on every containerd.
func forEach(t *testing.T, test func(t *testing.T, r release)) {
	t.Helper()
	for _, r := range releases() {
		t.Run(r.name, func(t *testing.T) { test(t, r) })
	}
}

// currentVersion is what the module in the folder containerd requires.
const currentVersion = "v2.3.7"

var buildOnce = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(cacheDir(), "containerd-"+currentVersion)
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		file := filepath.Join(dir, program)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", "no_btrfs no_zfs no_devmapper",
			"-ldflags", "-s -w -X github.com/containerd/containerd/v2/version.Version="+currentVersion, "-o", file+".new",
			"github.com/containerd/containerd/v2/cmd/"+program)
		cmd.Dir = "containerd"
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
		if err := os.Rename(file+".new", file); err != nil { // whole or not at all
			return "", err
		}
	}
	return dir, nil
})

// built returns where containerd 2 is, and builds it there once.
func built(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		testutil.Unsupported(t, "go", err.Error())
	}
	dir, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// cacheDir is where what is built once is kept, outside the tree.
func cacheDir() string {
	if dir := os.Getenv("SALLYPORT_CACHE"); dir != "" {
		return dir
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(base, "sallyport")
}
