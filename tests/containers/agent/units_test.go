package agent

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// host is a node without containers: an agent, cgroups such as a service manager makes, and two servers.
type host struct {
	*scene
	slice   string // path of the cgroup that holds the units
	dir     string // and its directory
	ns      netns.NsHandle
	program string // the victim
}

func newHost(t *testing.T) *host {
	t.Helper()
	testutil.RequireRoot(t)
	h := &host{scene: &scene{net: testutil.NewNet(t, testutil.NetOptions{})}, slice: "/" + testutil.UniqueName() + ".slice", program: victim.Build(t)}
	h.forbidden = testutil.NewEcho(t, h.net.Server, netip.AddrPortFrom(h.net.ServerAddr, forbiddenPort))
	hierarchies := testutil.CgroupHierarchies(t)
	for _, dir := range hierarchies {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			h.dir = filepath.Join(dir, h.slice)
		}
	}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testutil.RemoveCgroups(t, strings.TrimPrefix(h.slice, "/")) })
	var err error
	if h.ns, err = netns.GetFromPath(h.net.Node.Path()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.ns.Close() }) // read only
	h.agent = newAgent(t, h.net.Node, conf{unknown: "deny"})
	return h
}

// unit makes the cgroup of a unit.
func (h *host) unit(t *testing.T, name string) *pod.Container {
	t.Helper()
	c := &pod.Container{Dir: filepath.Join(h.dir, name), NS: h.ns}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// service is a process of a unit that connects to a port, once what it waits for has come.
func (h *host) service(t *testing.T, c *pod.Container, port int) (goOn func() string) {
	t.Helper()
	line := fmt.Sprintf("wait -- connect-tcp %s %d %d", h.net.ServerAddr, port, tryMS)
	p := c.Command(append([]string{h.program}, strings.Fields(line)...)...)
	p.HostMounts = true
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	return func() string {
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Error(err)
		}
		return strings.TrimPrefix(p.Result(), "connect-tcp: ")
	}
}

// wants checks what becomes of a connection from a unit.
func (h *host) wants(t *testing.T, c *pod.Container, port int, want string) {
	t.Helper()
	if got := h.service(t, c, port)(); got != want {
		t.Errorf("port %d from %s: got %s, want %s", port, filepath.Base(c.Dir), got, want)
	}
}

// await waits until a unit is governed, or known and not.
func (h *host) await(t *testing.T, name string, governed bool) {
	t.Helper()
	h.agent.awaitStatus(t, fmt.Sprintf("%s is governed: %t", name, governed), func(s status) error {
		for _, w := range s.Workloads {
			if w.Name == h.slice+"/"+name && w.Container == name && w.Governed == governed {
				return nil
			}
		}
		return errors.New("no such workload")
	})
}

// TestUnitsOfThePlainHost holds that a HostProcessPolicy governs the units that it selects, older and younger than it and
// than the agent, and nothing else.
func TestUnitsOfThePlainHost(t *testing.T) {
	h := newHost(t)
	web, other := h.unit(t, "web.service"), h.unit(t, "other.service")
	older := h.service(t, web, forbiddenPort)
	h.agent.Policy(t, "web.yaml", fmt.Sprintf(`apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata: {name: web}
spec:
  hostSelector: {units: [web*.service], cgroups: ['%s/*']}
  rules:
  - name: main
    processes: [{origins: [Main], binaries: ['%s']}]
    egress:
    - toCIDR: [%s/32]
      toPorts: [{ports: [{port: "%d", protocol: TCP}]}]
  - name: others
    processes: [{origins: [Exec]}]
    action: Deny
`, h.slice, h.program, h.net.ServerAddr, testutil.EchoPort))
	h.agent.Start(t)
	h.await(t, "web.service", true)
	testutil.Eventually(t, "labels of what runs", func() error {
		if !strings.Contains(h.agent.Log(t), "running processes are labelled") {
			return errors.New("the agent has not said so")
		}
		return nil
	})
	if got := older(); got != "EPERM" {
		t.Errorf("who is older than the agent got %s", got)
	}
	h.wants(t, other, forbiddenPort, "ok")

	later := h.unit(t, "web-later.service")
	h.await(t, "web-later.service", true)
	h.wants(t, later, testutil.EchoPort, "ok")
	h.wants(t, later, forbiddenPort, "EPERM")
	var told []string
	for _, e := range h.agent.Observe(t, "--verdict", "Deny") {
		told = append(told, e.Workload+" "+e.Origin+" "+e.Binary)
	}
	want := h.slice + "/web.service Main " + h.program + ", " + h.slice + "/web-later.service Exec " + h.program
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("denied %s, want %s", got, want)
	}

	// Without the policy nobody is governed, whatever labels they have: neither now nor under the next agent.
	before := h.service(t, web, forbiddenPort)
	if err := os.Remove(filepath.Join(h.agent.Path("policies"), "web.yaml")); err != nil {
		t.Fatal(err)
	}
	h.await(t, "web.service", false)
	h.wants(t, web, forbiddenPort, "ok")
	h.agent.Kill(t)
	h.agent.Start(t)
	h.await(t, "web.service", false)
	if got := before(); got != "ok" {
		t.Errorf("whom a policy has selected once got %s", got)
	}
}
