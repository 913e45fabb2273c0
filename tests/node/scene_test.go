package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	forbiddenPort = testutil.EchoPort + 1 // of a server that no rule allows
	probePort     = testutil.EchoPort + 2 // of one that is for probes
	tryMS         = 2000                  // of one connect
)

// scene is a node with an agent and servers: one that Main may reach (net.Echo), one for probes, one for nobody.
type scene struct {
	*node
	agent             *agent
	forbidden, probed *testutil.Echo
}

// newScene makes a scene. The agent does not run yet.
func newScene(t *testing.T, r release, configure ...func(*node)) *scene {
	t.Helper()
	s := &scene{node: newNode(t, r, configure...)}
	s.forbidden = testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, forbiddenPort))
	s.probed = testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, probePort))
	s.agent = newAgent(t, s.node)
	return s
}

// webPolicy lets Main of app=web reach its server and Probe its own, and sessions nothing.
func (s *scene) webPolicy() string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
  - name: main
    processes: [{origins: [Main]}]
    egress: [{toCIDR: [%[1]s/32], toPorts: [{ports: [{port: "%[2]d", protocol: TCP}]}]}]
  - name: probe
    processes: [{origins: [Probe]}]
    egress: [{toCIDR: [%[1]s/32], toPorts: [{ports: [{port: "%[3]d", protocol: TCP}]}]}]
  - name: shells
    processes: [{origins: [Exec, Host]}]
    action: Deny
`, s.net.ServerAddr, testutil.EchoPort, probePort)
}

// connect is the command line that connects to a port of the server once.
func (s *scene) connect(port int) string {
	return fmt.Sprintf("victim -- connect-tcp %s %d %d", s.net.ServerAddr, port, tryMS)
}

// knock is a script that connects to a port some 20 times a second, and prints what became of each.
func (s *scene) knock(port int) string {
	return "while :; do " + s.connect(port) + "; sleep 0.05; done"
}

// want checks what an attempt printed.
func want(t *testing.T, who, got, result string) {
	t.Helper()
	if got = strings.TrimSpace(got); got != "connect-tcp: "+result {
		t.Errorf("%s got %q, want %s", who, got, result)
	}
}

// count is how many lines of a text begin like that.
func count(text, prefix string) (n int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// more waits until there are n more lines that begin with prefix than now.
func more(t *testing.T, what string, text func() string, prefix string, n int) {
	t.Helper()
	before := count(text(), prefix)
	testutil.Eventually(t, what, func() error {
		if got := count(text(), prefix) - before; got < n {
			return fmt.Errorf("%d more lines %q, want %d", got, prefix, n)
		}
		return nil
	})
}

// onlyOK checks that no attempt of a knocking script had another outcome.
func onlyOK(t *testing.T, who, text, result string) {
	t.Helper()
	if bad := count(text, "connect-tcp:") - count(text, "connect-tcp: "+result); bad != 0 {
		outcomes := map[string]int{}
		for line := range strings.Lines(text) {
			if outcome, ok := strings.CutPrefix(strings.TrimSpace(line), "connect-tcp: "); ok {
				outcomes[outcome]++
			}
		}
		t.Errorf("%d attempts of %s were not %s: %v", bad, who, result, outcomes)
	}
}
