// Package kubernetes runs the parts of Kubernetes for tests: an API server with its etcd alone, or with the controllers,
// the scheduler and a kubelet on a containerd that is there, and kube-proxy where a test wants it. They are programs of
// version 1.35, built once from the module in the folder release, and etcd of Debian's package etcd-server. All of it lives
// in the namespaces that it is given and in one folder, and is gone at the end of the test.
package kubernetes

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// sources is the folder of this module.
var sources = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sallyport/sallyport").Output()
	if err != nil {
		return "", fmt.Errorf("looking for this module's sources: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
})

// built is the folder with the programs, which it makes first if it must.
var built = sync.OnceValues(func() (string, error) {
	root, err := sources()
	if err != nil {
		return "", err
	}
	dir, err := output("building Kubernetes", exec.Command(filepath.Join(root, "tests/node/kubernetes/release/build.sh")))
	return strings.TrimSpace(dir), err
})

// output runs a command for what, and returns what it writes on standard output. An error has what it writes on the other.
func output(what string, cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", what, err, stderr.Bytes())
	}
	return string(out), nil
}

// Program returns the path of one of Kubernetes' programs.
func Program(t testing.TB, name string) string {
	t.Helper()
	testutil.RequireRoot(t)
	if _, err := exec.LookPath("go"); err != nil {
		testutil.Unsupported(t, "go", err.Error())
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// component is one daemon of a cluster, which writes a log.
type component struct {
	name   string
	log    string // file
	spec   testutil.DaemonSpec
	daemon *testutil.Daemon
}

// start starts the daemon, again after it was stopped.
func (c *component) start(t testing.TB, program string, args ...string) {
	t.Helper()
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c.spec.Cmd = exec.Command(program, args...)
	c.spec.Cmd.Env = []string{"PATH=" + testutil.SystemPath(), "HOME=" + filepath.Dir(c.log)}
	c.spec.Cmd.Stdout, c.spec.Cmd.Stderr = log, log
	c.daemon, err = testutil.StartDaemon(c.spec)
	_ = log.Close() // the daemon has its own
	if err != nil {
		t.Fatalf("starting %s: %v", c.name, err)
	}
}

// await waits until try succeeds, and ends the test at once when the daemon has ended.
func (c *component) await(t testing.TB, what string, try func() error) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		if c.daemon.Ended() {
			t.Fatalf("%s ended:\n%s", c.name, c.tail())
		}
		return try()
	})
}

// tail is the end of what the daemon wrote.
func (c *component) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// close ends the daemon by a signal; of a test that failed it shows what it wrote.
func (c *component) close(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if c.daemon == nil {
		return
	}
	if err := c.daemon.Stop(signal); err != nil {
		t.Errorf("stopping %s: %v", c.name, err)
	}
	if t.Failed() {
		t.Logf("%s wrote:\n%s", c.name, c.tail())
	}
}
