package bench

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// hookRounds is how many containers are held by each program.
const hookRounds = 25

// TestHook measures how long the OCI hook holds up the start of a container, with a real agent that compiles, swaps and
// labels meanwhile: by the program that is for that, by the agent's own, and a program that does nothing. The quickest
// round counts: what else the machine does adds to all.
func TestHook(t *testing.T) {
	if testutil.InVM() {
		t.Skip("there is no agent's program in the guest, and milliseconds of an emulated machine mean nothing")
	}
	n := pod.NewNode(t)
	socket := runAgent(t, n)
	hold := func(hook ...string) func() (wall, cpu time.Duration) {
		return func() (time.Duration, time.Duration) {
			state := newlyMade(t, n)
			return timeOf(t, state, append(hook, "createRuntime", "--config", os.DevNull, "--socket", socket, "--on-failure", "refuse")...)
		}
	}
	sides := []struct {
		what, budget string
		run          func() (wall, cpu time.Duration)
	}{
		{"a program that does nothing", "", func() (time.Duration, time.Duration) { return timeOf(t, "", "/bin/true") }},
		{"sallyport-hook", "≤ 10 ms", hold(program.Hook(t))},
		{"sallyport hook", "", hold(program.Binary(t), "hook")},
	}
	walls, cpus := make([][]time.Duration, len(sides)), make([][]time.Duration, len(sides))
	for range hookRounds { // in turns, so that what else the machine does meets all
		for i, side := range sides {
			wall, cpu := side.run()
			walls[i], cpus[i] = append(walls[i], wall), append(cpus[i], cpu)
		}
	}
	var rows []row
	for i, side := range sides {
		rows = append(rows, row{side.what, 0, slices.Min(walls[i]), side.budget}, row{"the same, of a processor", 0, slices.Min(cpus[i]), ""})
	}
	printTable("A container held by the OCI hook until its policies are in force", rows)
}

// runAgent starts the agent's program on a node, with one policy, and returns its socket.
func runAgent(t *testing.T, n *pod.Node) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a folder for temporary files
	socket, config := filepath.Join(dir, "api.sock"), filepath.Join(dir, "config.yaml")
	for name, text := range map[string]string{
		"policy.yaml": `apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: closed}
spec: {podSelector: {}, rules: [{name: none, action: Deny}]}
`,
		"config.yaml": fmt.Sprintf(`policies: {dir: %s}
kernel: {bpffs: %s, cgroupRoot: %s}
runtime: {containerd: {enabled: false}, nri: {enabled: never}, containerParents: [%s]}
kube: {enabled: never}
alerts: {jsonl: {path: %s}}
api: {socket: %s}
metrics: {address: ""}
`, filepath.Join(dir, "policies"), n.BPFFS, strings.TrimSuffix(n.CgroupRoot, filepath.Dir(n.Parent)), n.Parent, filepath.Join(dir, "alerts"), socket),
	} {
		at := filepath.Join(dir, name)
		if name == "policy.yaml" {
			at = filepath.Join(dir, "policies", name)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program.Binary(t), "run", "--config", config)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal("starting the agent: ", err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("ending the agent: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v:\n%s", err, log.String())
		}
		if out, err := exec.Command(program.Binary(t), "run", "--cleanup", "--config", config).CombinedOutput(); err != nil {
			t.Errorf("cleaning up: %v: %s", err, out)
		}
	})
	testutil.Eventually(t, "the agent answers", func() error {
		return exec.Command(program.Binary(t), "status", "--config", config).Run()
	})
	return socket
}

// newlyMade makes a container as a runtime does before it calls its hooks, and returns the state that they are given.
func newlyMade(t *testing.T, n *pod.Node) (state string) {
	t.Helper()
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	c := n.Container(t, id, 0)
	first := c.Command("sleep", "600") // ended with its cgroup
	first.HostMounts = true
	first.Start(t)
	t.Cleanup(func() {
		_ = first.Process.Kill() // it is there, or has ended
		first.Result()
	})
	bundle := t.TempDir()
	spec := fmt.Sprintf(`{"ociVersion":"1.0.2","linux":{"cgroupsPath":"%s/%s"}}`, n.Parent, id)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"ociVersion":"1.0.2","id":%q,"status":"creating","pid":%d,"bundle":%q}`, id, first.Process.Pid, bundle)
}

// timeOf runs a program to its end, and returns how long that took, and how much of a processor.
func timeOf(t *testing.T, stdin string, args ...string) (wall, cpu time.Duration) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
	begin := time.Now()
	err := cmd.Run()
	wall = time.Since(begin)
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v: %s", args[0], err, stderr.String())
	}
	return wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
