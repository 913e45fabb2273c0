package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// runs is how often each way into a pod is taken: every one of them must get its verdict.
const runs = 100

// atATime is how many kubectl run at once.
const atATime = 4

// TestKubectl takes every way into a pod that kubectl and the kubelet have, again and again, beside a main program whose
// workers call the server that they may call.
func TestKubectl(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		c := newCluster(t, r, r.calls())
		c.agent.Policy(t, "web.yaml", c.webPolicy())
		c.agent.Policy(t, "debug.yaml", debugPolicy)
		c.agent.start(t)
		c.run(t, manifest{name: "web", main: c.workers()})
		t.Run("exec", c.execs)
		t.Run("exec with a terminal", c.terminals)
		t.Run("exec of nc", c.netcats)
		t.Run("cp", c.copies)
		t.Run("debug", c.debuggers)
		t.Run("probes", c.probes)
		c.onlyWorkers(t)
		c.forbidden.ExpectNone(t)
		c.noLosses(t)
	})
}

// debugPolicy keeps what somebody adds to a running pod off the network.
const debugPolicy = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: debug, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  rules: [{name: ephemeral, processes: [{containerTypes: [Ephemeral]}], action: Deny}]
`

// tarOutput is where the container's tar, which is a script, writes what became of its connection.
const tarOutput = "/tmp/tar"

// workers is a main program with three workers. Before them it puts a tar that connects in the place of busybox's.
func (c *cluster) workers() string {
	return "rm /bin/tar; printf '#!/bin/sh\\n" + c.connect(testutil.EchoPort) + " >>" + tarOutput +
		"\\nexec busybox tar \"$@\"\\n' >/bin/tar; chmod +x /bin/tar; for i in 1 2 3; do (" + c.knock(testutil.EchoPort) + ") & done; wait"
}

// onlyWorkers checks that every worker was allowed, all the time.
func (c *cluster) onlyWorkers(t *testing.T) {
	t.Helper()
	out := c.Must(t, "-n", "shop", "logs", "web", "-c", "main")
	onlyOK(t, "a worker", out, "ok")
	if n := count(out, "connect-tcp: ok"); n < runs {
		t.Errorf("the workers have connected %d times only", n)
	}
}

// repeat does something as often as it must work, several at a time, and tells the first few that do not.
func repeat(t *testing.T, what string, do func(i int) error) {
	t.Helper()
	var mu sync.Mutex
	var wrong []error
	var all sync.WaitGroup
	next := make(chan int)
	for range atATime {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range runs {
		next <- i
	}
	close(next)
	all.Wait()
	if len(wrong) > 0 {
		t.Errorf("%s: %d of %d were wrong: %v", what, len(wrong), runs, errors.Join(wrong[:min(3, len(wrong))]...))
	}
}

// kubectl runs it in the namespace shop and returns what it wrote.
func (c *cluster) kubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	r, err := c.Kubectl(t, "", append([]string{"-n", "shop"}, args...)...)
	if err == nil && strings.Contains(r.Stderr, "rror") {
		err = errors.New(r.Stderr)
	}
	return r.Stdout, err
}

// expect compares what somebody wrote who connected.
func expect(out string, err error, result string) error {
	if err == nil && strings.TrimSpace(out) != "connect-tcp: "+result {
		err = fmt.Errorf("it wrote %q, want %s", out, result)
	}
	return err
}

func (c *cluster) execs(t *testing.T) {
	args := append([]string{"exec", "web", "--"}, strings.Fields(c.connect(testutil.EchoPort))...)
	repeat(t, "kubectl exec", func(int) error {
		out, err := c.kubectl(t, args...)
		return expect(out, err, "EPERM")
	})
}

// terminals are kubectl exec -it on a terminal, which script makes.
func (c *cluster) terminals(t *testing.T) {
	repeat(t, "kubectl exec -it", func(int) error {
		r, err := c.Terminal(t, "-n shop exec -it web -- sh -c '"+c.connect(testutil.EchoPort)+"; test -t 0'")
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("it ended with %+v", r)
		}
		_, out, _ := strings.Cut(r.Stdout, "connect-tcp:") // beside it kubectl and script write what they think of each other's end
		out, _, _ = strings.Cut(out, "\r\n")
		return expect("connect-tcp:"+out, err, "EPERM")
	})
}

func (c *cluster) netcats(t *testing.T) {
	server, port := c.net.ServerAddr.String(), fmt.Sprint(testutil.EchoPort)
	repeat(t, "kubectl exec of nc", func(int) error {
		r, err := c.Kubectl(t, "", "-n", "shop", "exec", "web", "--", "nc", "-w", "2", server, port)
		if err == nil && (r.Code != 1 || !strings.Contains(r.Stderr, "Operation not permitted")) {
			err = fmt.Errorf("it ended with %+v", r)
		}
		return err
	})
}

// copies are kubectl cp, which executes tar in the container.
func (c *cluster) copies(t *testing.T) {
	dir := t.TempDir()
	repeat(t, "kubectl cp", func(i int) error {
		file := filepath.Join(dir, fmt.Sprint(i))
		if _, err := c.kubectl(t, "cp", "web:/etc/passwd", file); err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err == nil && !strings.HasPrefix(string(text), "root:x:0:0:") {
			err = fmt.Errorf("it copied %q", text)
		}
		return err
	})
	out := c.Must(t, "-n", "shop", "exec", "web", "--", "cat", tarOutput)
	if n := count(out, "connect-tcp: EPERM"); n != runs {
		t.Errorf("%d of %d tars of kubectl cp were denied: %q", n, runs, out)
	}
}

// debuggers are the shells of kubectl debug, ten of them with ten connections each.
func (c *cluster) debuggers(t *testing.T) {
	const shells = 10
	script := "for i in 1 2 3 4 5 6 7 8 9 10; do " + c.connect(testutil.EchoPort) + "; done"
	for i := range shells {
		c.Must(t, "-n", "shop", "debug", "web", "--attach=false", "--image="+boxImage, fmt.Sprintf("--container=debug-%d", i),
			"--target=main", "--", "sh", "-c", script)
	}
	for i := range shells {
		name := fmt.Sprintf("debug-%d", i)
		testutil.Eventually(t, name+" has tried", func() error {
			out, err := c.kubectl(t, "logs", "web", "-c", name)
			if err == nil && count(out, "connect-tcp:") != runs/shells {
				err = fmt.Errorf("it wrote %q", out)
			}
			if err == nil {
				onlyOK(t, name, out, "EPERM")
			}
			return err
		})
	}
}

// probes are those of ten pods, which the kubelet runs, and which connect to the server that is for them.
func (c *cluster) probes(t *testing.T) {
	command := fmt.Sprintf("%q", strings.Fields(c.connect(probePort)))
	command = strings.ReplaceAll(command, `" "`, `", "`)
	probe := "{exec: {command: " + command + "}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}"
	lines := "    livenessProbe: " + probe + "\n    readinessProbe: " + probe + "\n    lifecycle: {postStart: {exec: {command: " + command + "}}}\n"
	var pods []manifest
	for i := range 10 {
		pods = append(pods, manifest{name: fmt.Sprintf("probed-%d", i), main: "sleep 1000", probes: lines})
	}
	c.run(t, pods...)
	testutil.Eventually(t, "the probes have connected", func() error {
		if n := len(c.probed.Contacts()); n < runs {
			return fmt.Errorf("%d times, want %d", n, runs)
		}
		return nil
	})
	for _, e := range c.agent.observe(t, "--verdict", "Deny") {
		if strings.HasPrefix(e.Pod, "probed-") {
			t.Errorf("a probe was denied: %+v", e)
		}
	}
	restarts := c.Must(t, "-n", "shop", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.Trim(restarts, "0 ") != "" {
		t.Errorf("containers were restarted: %s", restarts)
	}
	out, err := c.kubectl(t, append([]string{"exec", "probed-0", "--"}, strings.Fields(c.connect(testutil.EchoPort))...)...)
	if err := expect(out, err, "EPERM"); err != nil {
		t.Error("an exec beside probes: ", err)
	}
	c.Must(t, "-n", "shop", "delete", "pods", "--now", "--wait=false", "probed-0", "probed-1", "probed-2", "probed-3", "probed-4",
		"probed-5", "probed-6", "probed-7", "probed-8", "probed-9")
}
