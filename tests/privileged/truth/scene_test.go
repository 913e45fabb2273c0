// Package truth holds policies of Kubernetes and Cilium, as people have them, against what gets through between several
// real network namespaces: pods of two namespaces, a peer outside of the cluster, and the node. Each cell of a table is a
// connection, a datagram with its answer, or an echo, made by a process of its own.
package truth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// serveArg makes the test binary a server in a pod.
const serveArg = "sallyport-serve"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveArg {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {} // until the test ends the process
	}
	inventory.Main(m, attached.Free)
}

// serve answers on every port of the table and says on standard error who came: tcp/80 ADDRESS.
func serve() error {
	for _, port := range []int{80, 8080} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.AcceptTCP()
				if err != nil {
					return
				}
				came(fmt.Sprintf("tcp/%d", port), conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
				_ = conn.Close() // the client only connects
			}
		}()
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: 53})
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				continue // a network's error to an earlier answer
			}
			came("udp/53", from.Addr())
			_, _ = conn.WriteToUDPAddrPort(b[:n], from) // who waits for it says that it did not come
		}
	}()
	fmt.Fprintln(os.Stderr, ready)
	return nil
}

const ready = "ready"

func came(what string, from netip.Addr) { fmt.Fprintln(os.Stderr, what, from.Unmap()) }

// member is one end of the table's cells.
type member struct {
	name      string
	leaf      *testutil.Leaf // nil: the node
	container *pod.Container
	workload  policy.Workload // of a pod
	contacts  *contacts       // with its server
}

// contacts is who has reached a server, as it says itself.
type contacts struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (c *contacts) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[line] = true
}

func (c *contacts) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.seen)
}

func (c *contacts) has(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[line]
}

// scene is all members behind their gates, with web as the one that policies are about.
type scene struct {
	node   *pod.Node
	star   *testutil.Star
	kernel *probes.Kernel
	judge  *judge.Judge
	victim string
	web    *member
	peers  []*member // in the order of the tables' columns
}

// pods are the pods of the cluster in the order of their leaves; the leaf behind them is outside of it.
func pods() []policy.Workload {
	named := func(port uint16) []policy.NamedPort {
		return []policy.NamedPort{{Name: "http", Protocol: policy.ProtocolTCP, Port: port}}
	}
	red, blue := map[string]string{"team": "red"}, map[string]string{"team": "blue"}
	return []policy.Workload{
		{Pod: "web", Namespace: "shop", NamespaceLabels: red, Labels: map[string]string{"app": "web"}, Ports: named(8080)},
		{Pod: "db", Namespace: "shop", NamespaceLabels: red, Labels: map[string]string{"app": "db", "tier": "back"}, Ports: named(80)},
		{Pod: "cache", Namespace: "shop", NamespaceLabels: red, Labels: map[string]string{"app": "cache", "tier": "back"}},
		{Pod: "bank", Namespace: "pay", NamespaceLabels: blue, Labels: map[string]string{"app": "db"}, Ports: named(8080)},
	}
}

// The networks that policies of the tables name. The pods' are parts of the first two.
func networks() (all [][2]netip.Prefix) {
	for i := range pods() {
		all = append(all, [2]netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.1.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:1:%x::/64", i)),
		})
	}
	return append(all, [2]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/64")})
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{node: pod.NewNode(t), star: testutil.NewStar(t, networks()...), victim: victim.Build(t)}
	s.kernel, s.judge = attached.Open(t, s.node, probes.Config{}, attached.Enforcing())
	g, err := gate.Attach(s.kernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() }) // handles only
	s.populate(t, g)
	return s
}

// populate starts a server in every member, and gates the pods.
func (s *scene) populate(t *testing.T, g *gate.Gate) {
	t.Helper()
	all := pods()
	for i := range s.star.Leaves {
		m := &member{name: "world", leaf: &s.star.Leaves[i]}
		ns := handle(t, m.leaf.NetNS)
		if i == len(all) {
			m.container = s.outsider(t, m.name, ns)
		} else {
			m.name, m.workload = all[i].Pod, all[i]
			m.container = s.node.Container(t, m.name, ns)
			m.workload.Key, m.workload.Container, m.workload.ContainerType = m.container.ID, "c", "App"
			veth := gate.Veth{Ifindex: uint32(m.leaf.Outside.Attrs().Index), NetNS: m.leaf.Cookie(t), Container: m.container.ID}
			s.star.Node.Do(t, func() error { return g.Govern(veth) })
		}
		s.join(t, m, m.leaf.NetNS)
	}
	s.join(t, &member{name: "node", container: s.outsider(t, "node", handle(t, s.star.Node))}, s.star.Node)
}

// handle opens a network namespace for processes that are to start in it.
func handle(t *testing.T, ns *testutil.NetNS) netns.NsHandle {
	t.Helper()
	h, err := netns.GetFromPath(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() }) // read only
	return h
}

// outsider is processes that are of no container.
func (s *scene) outsider(t *testing.T, name string, ns netns.NsHandle) *pod.Container {
	t.Helper()
	return &pod.Container{Dir: s.node.Cgroup(t, name), NS: ns}
}

// join starts a member's server.
func (s *scene) join(t *testing.T, m *member, ns *testutil.NetNS) {
	t.Helper()
	ns.Do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0) })
	m.contacts = &contacts{seen: map[string]bool{}}
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	server := m.container.Command(self, serveArg)
	lines, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = server.Process.Kill() // it may have ended
		<-done
		_ = server.Wait() // it was killed
	})
	if !lines.Scan() || lines.Text() != ready {
		close(done)
		t.Fatalf("the server of %s says %q", m.name, lines.Text())
	}
	go func() {
		defer close(done)
		for lines.Scan() {
			m.contacts.add(lines.Text())
		}
	}()
	if m.name == "web" {
		s.web = m
		return
	}
	s.peers = append(s.peers, m)
}

// at is the address at which a peer and web meet: the node's is that on web's link.
func (s *scene) at(m *member, family int) netip.Addr {
	if m.leaf == nil {
		return s.web.leaf.Gateways[family].Addr()
	}
	return m.leaf.Own[family].Addr()
}

// input is what policies are judged by here.
func (s *scene) input(t *testing.T, text string) policy.Input {
	t.Helper()
	policies, err := policy.Parse("truth.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Policies: policies, World: policy.World{Namespaces: map[string]map[string]string{}}}
	for _, m := range append([]*member{s.web}, s.peers...) {
		if m.leaf == nil {
			continue
		}
		in.Node.Addresses = append(in.Node.Addresses, m.leaf.Gateways[0].Addr(), m.leaf.Gateways[1].Addr())
		w := &m.workload
		if w.Pod == "" {
			continue
		}
		in.Workloads = append(in.Workloads, *w)
		in.World.Namespaces[w.Namespace] = w.NamespaceLabels
		in.World.Cluster = append(in.World.Cluster, m.leaf.Own[0].Masked(), m.leaf.Own[1].Masked())
		in.World.Endpoints = append(in.World.Endpoints, policy.Endpoint{
			Namespace: w.Namespace, Labels: w.Labels, Ports: w.Ports, Addresses: []netip.Addr{m.leaf.Own[0].Addr(), m.leaf.Own[1].Addr()},
		})
	}
	return in
}

// enforce puts policies in force.
func (s *scene) enforce(t *testing.T, in policy.Input) {
	t.Helper()
	attached.InForce(t, s.judge, compile.Enforced{World: true}, in)
	for _, m := range append([]*member{s.web}, s.peers...) {
		m.contacts.reset()
	}
}

// cell is one attempt of the table.
type cell struct {
	from, to *member
	family   int // 0: IPv4, 1: IPv6
	kind     kind
	passes   bool
	process  *pod.Process
}

func (c *cell) String() string {
	return fmt.Sprintf("%s to %s, %s over IPv%d", c.from.name, c.to.name, c.kind.name, [...]int{4, 6}[c.family])
}

// kind is what is attempted.
type kind struct {
	letter   string
	name     string // as servers say it, or ping
	protocol [2]uint8
	port     uint16
}

// start makes a cell's attempt. What is to pass may take long on a busy machine; what is not need not be waited for long.
func (s *scene) start(t *testing.T, c *cell) {
	t.Helper()
	ms := "700"
	if c.passes {
		ms = "10000"
	}
	args := []string{s.victim, "--", ping, s.at(c.to, c.family).String()}
	if protocol, _, ok := strings.Cut(c.kind.name, "/"); ok {
		args = []string{s.victim, "--", "connect-" + protocol, s.at(c.to, c.family).String(), fmt.Sprint(c.kind.port), ms}
	}
	c.process = c.from.container.Command(args...)
	c.process.Start(t)
}

// finish waits for a cell's outcome and holds it, at both ends, against the table.
func (s *scene) finish(t *testing.T, c *cell) {
	t.Helper()
	line := c.process.Result()
	if got := strings.HasSuffix(line, ": ok"); got != c.passes {
		t.Errorf("%s: %q %s, passes is %v in the table", c, line, c.process.Complaint(), c.passes)
		return
	}
	contact := c.kind.name + " " + s.at(c.from, c.family).String()
	switch {
	case !c.passes && c.to.contacts.has(contact):
		t.Errorf("%s: it failed, but the server was reached", c)
	case c.passes && c.kind.port != 0:
		// Awaited, so that the next table does not take it for its own.
		testutil.Eventually(t, c.String()+" reaches the server", func() error {
			if !c.to.contacts.has(contact) {
				return errors.New("it has not come")
			}
			return nil
		})
	}
}
