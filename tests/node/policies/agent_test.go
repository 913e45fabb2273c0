// Package policies tests what an agent makes of the policies in a Kubernetes API: a real API server with its etcd, and the
// agent as an operator runs it, with the rights that the chart gives it and no containers.
package policies

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// agentUser is who the agent is to the API.
const agentUser = "system:serviceaccount:sallyport:sallyport-agent"

// newAPI starts an API server that has what an installation needs, and one node.
func newAPI(t *testing.T) *kubernetes.API {
	t.Helper()
	api := kubernetes.NewAPI(t, kubernetes.APIOptions{})
	api.Must(t, "apply", "--server-side", "-f", "../../../contrib/crds")
	api.Must(t, "wait", "--for=condition=Established", "crd/processpolicies.sallyport.dev", "crd/clusterprocesspolicies.sallyport.dev")
	api.Apply(t, "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n")
	api.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: sallyport}\n")
	api.Apply(t, kubernetes.Manifests(t))
	return api
}

// agent is an agent that follows an API as node-1.
type agent struct {
	dir     string
	program string
	daemon  *testutil.Daemon
}

// newAgent starts an agent that reaches an API by a file, with more entries below kube. At the end of the test it is stopped, and everything is removed from the kernel.
func newAgent(t *testing.T, kubeconfig string, more ...string) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{dir: dir, program: program.Binary(t)}
	if err := os.Mkdir(a.path("bpf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", a.path("bpf"), "bpf", 0, ""); err != nil {
		t.Fatal("mounting a BPF file system: ", err)
	}
	t.Cleanup(func() { a.close(t) })
	config := fmt.Sprintf(`policies: {dir: %s}
kernel: {bpffs: %s}
runtime: {containerd: {enabled: false}, nri: {enabled: never}}
kube: {enabled: always, kubeconfig: %s, nodeName: node-1, staleAfter: 1s%s}
gate: {enabled: false}
alerts: {jsonl: {path: %s}}
api: {socket: %s}
log: {level: debug}
`, a.path("policies"), a.path("bpf"), kubeconfig, strings.Join(append([]string{""}, more...), ", "), a.path("alerts.jsonl"), a.path("s"))
	if err := os.WriteFile(a.path("config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(a.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(a.program, "run", "--config", a.path("config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	if a.daemon, err = testutil.StartDaemon(testutil.DaemonSpec{Cmd: cmd}); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

func (a *agent) close(t *testing.T) {
	t.Helper()
	if a.daemon != nil {
		if err := a.daemon.Stop(syscall.SIGTERM); err != nil {
			t.Errorf("stopping the agent: %v", err)
		}
	}
	if t.Failed() {
		t.Logf("the agent wrote:\n%s", a.log(t))
	}
	if out, err := exec.Command(a.program, "run", "--cleanup", "--config", a.path("config.yaml")).CombinedOutput(); err != nil {
		t.Errorf("cleaning up: %v: %s", err, out)
	}
	if err := unix.Unmount(a.path("bpf"), unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Error(err)
	}
}

// log is what the agent wrote.
func (a *agent) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.path("log"))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// status is what sallyport status says.
func (a *agent) status() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(a.program, "status", "--socket", a.path("s"))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	return string(out), nil
}

// row waits until kubectl get shows the fields in the row of a policy.
func row(t *testing.T, api *kubernetes.API, kind, name string, want ...string) {
	t.Helper()
	testutil.Eventually(t, kind+" "+name+" shows "+strings.Join(want, " "), func() error {
		out := api.Must(t, "get", kind, "-A", "-o", "wide", "--no-headers")
		for line := range strings.Lines(out) {
			if !strings.Contains(line, name+" ") {
				continue
			}
			for _, field := range want {
				if !strings.Contains(line, field) {
					return fmt.Errorf("it is %s", line)
				}
			}
			return nil
		}
		return fmt.Errorf("there is no row in %s", out)
	})
}

// shows waits until the agent's status has a line with all the fields.
func (a *agent) shows(t *testing.T, want ...string) {
	t.Helper()
	testutil.Eventually(t, "status shows "+strings.Join(want, " "), func() error {
		out, err := a.status()
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			all := true
			for _, field := range want {
				all = all && strings.Contains(line, field)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("it is\n%s", out)
	})
}
