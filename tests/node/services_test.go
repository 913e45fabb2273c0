package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	servicePort = 80   // of every service
	backendPort = 8080 // of what is behind it
	callLimit   = 15   // seconds that a call may take which is to succeed: far more than it needs
)

// services are what clients call: store is allowed, vault is denied, and mixed has the backends of both.
const services = `apiVersion: v1
kind: Service
metadata: {name: store, namespace: shop, labels: {kind: goods}}
spec: {clusterIP: 10.96.7.1, selector: {app: store}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: shop, labels: {kind: secrets}}
spec: {clusterIP: 10.96.7.2, selector: {app: vault}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: mixed, namespace: shop, labels: {kind: both}}
spec: {clusterIP: 10.96.7.3, selector: {tier: back}, ports: [{port: 80, targetPort: 8080}]}
`

// peers is how clients' policies name the two: in YAML, as one entry of egress without its braces.
var peers = map[string]struct{ store, vault string }{
	"by-name":   {"toServices: [{k8sService: {serviceName: store}}]", "toServices: [{k8sService: {serviceName: vault}}]"},
	"by-labels": {"toServices: [{k8sServiceSelector: {selector: {matchLabels: {kind: goods}}}}]", "toServices: [{k8sServiceSelector: {selector: {matchLabels: {kind: secrets}}}}]"},
	"by-pods":   {"toEndpoints: [{matchLabels: {app: store}}]", "toEndpoints: [{matchLabels: {app: vault}}]"},
}

// clientPolicy lets the main program of a client reach store at the port that its backend has, and denies it vault by a rule.
func clientPolicy(name string) string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: %[1]s, namespace: shop}
spec:
  podSelector: {matchLabels: {app: %[1]s}}
  rules:
  - name: store
    processes: [{origins: [Main]}]
    egress: [{%[2]s, toPorts: [{ports: [{port: "%[4]d", protocol: TCP}]}]}]
  - name: vault
    processes: [{origins: [Main]}]
    action: Deny
    egress: [{%[3]s}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`, name, peers[name].store, peers[name].vault, backendPort)
}

// storePolicy lets clients in, whom it knows by their labels: by their own addresses, that is.
const storePolicy = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: store, namespace: shop}
spec:
  podSelector: {matchLabels: {app: store}}
  rules:
  - name: clients
    ingress: [{fromEndpoints: [{matchLabels: {role: client}}], toPorts: [{ports: [{port: "8080", protocol: TCP}]}]}]
`

// target is one address under which clients call something.
type target struct {
	name    string // as they print it
	address netip.AddrPort
	result  string // of a main program: ok, and what the server says, or EPERM
	server  string // what the server says
}

// TestServices has clients call services by their own addresses, which the real kube-proxy translates, and by those of their
// backends: both get the same verdict, and the backend's own rules see who really calls.
func TestServices(t *testing.T) {
	c := newCluster(t, current, func(n *node) { n.cni = "ptp" }) // a bridge would need br_netfilter for the way back
	c.StartProxy(t, netip.MustParsePrefix(podSubnet))
	for client := range peers {
		c.agent.Policy(t, client+".yaml", clientPolicy(client))
	}
	c.agent.Policy(t, "store.yaml", storePolicy)
	c.agent.start(t)
	targets := c.serve(t)
	pods := []manifest{{name: "stranger", labels: "{app: stranger}", main: "sleep 1000"}}
	for client := range peers {
		pods = append(pods, manifest{name: client, labels: fmt.Sprintf("{app: %s, role: client}", client), main: calling(targets)})
	}
	c.run(t, pods...)
	for client := range peers {
		t.Run(client, func(t *testing.T) {
			c.mainCalls(t, client, targets)
			c.shellCalls(t, client, targets)
		})
	}
	t.Run("stranger", func(t *testing.T) { c.strangerCalls(t, targets) })
	c.callersAtStore(t)
	c.noLosses(t)
}

// serve makes the services and what is behind them. Each server says its name.
func (c *cluster) serve(t *testing.T) []target {
	t.Helper()
	server := func(name string) manifest {
		return manifest{
			name: name, labels: fmt.Sprintf("{app: %s, tier: back}", name),
			main: fmt.Sprintf("mkdir /www; echo %s >/www/index.html; exec httpd -f -vv -p %d -h /www", name, backendPort),
		}
	}
	c.Apply(t, services)
	c.run(t, server("store"), server("vault"))
	at := func(address string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(address), port)
	}
	return []target{
		{"store's-service", at("10.96.7.1", servicePort), "ok", "store"},
		{"store's-backend", at(c.addressOf(t, "store"), backendPort), "ok", "store"},
		{"vault's-service", at("10.96.7.2", servicePort), "EPERM", "vault"},
		{"vault's-backend", at(c.addressOf(t, "vault"), backendPort), "EPERM", "vault"},
		{"mixed-service", at("10.96.7.3", servicePort), "EPERM", ""},
	}
}

// addressOf is a pod's own address.
func (c *cluster) addressOf(t *testing.T, pod string) string {
	t.Helper()
	return c.Must(t, "-n", "shop", "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
}

// connect is the command line that connects to a target once, within ms.
func (g *target) connect(ms int) string {
	return fmt.Sprintf("victim -- connect-tcp %s %d %d", g.address.Addr(), g.address.Port(), ms)
}

// line is what a main program prints that got what it should.
func (g *target) line() string {
	if g.result == "ok" {
		return fmt.Sprintf("%s connect-tcp: ok from %s\n", g.name, g.server)
	}
	return fmt.Sprintf("%s connect-tcp: %s from \n", g.name, g.result)
}

// calling is a main program that calls all targets again and again, and prints what became of it and which server answered.
func calling(targets []target) string {
	var b strings.Builder
	b.WriteString("while :; do ")
	for _, g := range targets {
		fmt.Fprintf(&b, `echo "%s $(%s) from $(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w %d %s %d 2>/dev/null | tail -n 1)"; `,
			g.name, g.connect(callLimit*1000), callLimit, g.address.Addr(), g.address.Port())
	}
	b.WriteString("sleep 0.2; done")
	return b.String()
}

// mainCalls waits until kube-proxy and the agent know the services, and looks at what the main program gets from then on.
func (c *cluster) mainCalls(t *testing.T, client string, targets []target) {
	t.Helper()
	logs := func() string { return c.Must(t, "-n", "shop", "logs", client) }
	for _, g := range targets {
		if g.result == "ok" {
			testutil.Eventually(t, client+" reaches "+g.name, func() error {
				if out := logs(); !strings.Contains(out, g.line()) {
					return fmt.Errorf("it wrote %q", out)
				}
				return nil
			})
		}
	}
	settled := len(logs())
	const rounds = 5
	testutil.Eventually(t, client+" goes on", func() error {
		// What is last of a round: the first of them may have begun before.
		if n := count(logs()[settled:], "mixed-service"); n <= rounds {
			return fmt.Errorf("%d rounds, want more than %d", n, rounds)
		}
		return nil
	})
	out := logs()
	got := map[string]int{}
	for line := range strings.Lines(out[settled:]) {
		got[line]++
	}
	for _, g := range targets {
		if got[g.line()] < rounds {
			t.Errorf("%s got what it should %d times only of %s", client, got[g.line()], g.name)
		}
		delete(got, g.line())
		if g.result != "ok" && count(out, g.name+" connect-tcp: ok") > 0 {
			t.Errorf("%s reached %s", client, g.name)
		}
		if g.result != "ok" {
			c.awaitDenial(t, client, "vault", g)
		}
	}
	if len(got) > 0 {
		t.Errorf("%s got something else: %v", client, got)
	}
}

// shellCalls has shells that kubectl exec makes denied everywhere.
func (c *cluster) shellCalls(t *testing.T, client string, targets []target) {
	t.Helper()
	for _, g := range targets {
		out, err := c.kubectl(t, append([]string{"exec", client, "--", "sh", "-c"}, g.connect(tryMS)+"; true")...)
		if err := expect(out, err, "EPERM"); err != nil {
			t.Errorf("a shell in %s calls %s: %v", client, g.name, err)
		}
		c.awaitDenial(t, client, "shells", g)
	}
}

// awaitDenial waits for the event of a call that a rule of the client's policy denied, with the address that was called.
func (c *cluster) awaitDenial(t *testing.T, client, rule string, g target) {
	t.Helper()
	testutil.Eventually(t, "the denial of "+g.name+" is told as of "+rule, func() error {
		events := c.agent.observe(t, "--verdict", "Deny", "--pod", client)
		for _, e := range events {
			if e.Rule == "shop/"+client+"/"+rule && e.Peer == g.address.String()+"/TCP" {
				return nil
			}
		}
		return fmt.Errorf("no such event in %+v", events)
	})
}

// strangerCalls has a pod call that no policy selects and that store does not know: both of store's addresses are closed
// to it, both of vault's are open. Which server a call to mixed goes to is chance.
func (c *cluster) strangerCalls(t *testing.T, targets []target) {
	t.Helper()
	for _, g := range targets {
		want, ms := "ok", callLimit*1000
		switch g.server {
		case "store":
			want, ms = "ETIMEDOUT", tryMS
		case "":
			continue
		}
		out, err := c.kubectl(t, append([]string{"exec", "stranger", "--"}, strings.Fields(g.connect(ms))...)...)
		if err := expect(out, err, want); err != nil {
			t.Errorf("a stranger calls %s: %v", g.name, err)
		}
	}
}

// callersAtStore checks that the server saw every client under its own address, whichever address had been called, and
// nobody else.
func (c *cluster) callersAtStore(t *testing.T) {
	t.Helper()
	out := c.Must(t, "-n", "shop", "logs", "store")
	callers := map[string]string{}
	for client := range peers {
		callers[c.addressOf(t, client)] = client
	}
	seen := map[string]int{}
	for line := range strings.Lines(out) {
		address, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "["), "::ffff:"), "]:")
		if callers[address] == "" {
			t.Errorf("store was called by somebody else: %q", line)
		}
		seen[address]++
	}
	for address, client := range callers {
		if seen[address] == 0 {
			t.Errorf("store does not tell that %s (%s) called: %q", client, address, out)
		}
	}
}
