// Package names tests rules by name with real traffic: a resolver behind the node, processes in containers behind a
// gated veth that ask it and connect to what it tells.
package names

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// rules lets web ask the server for names of good.example and connect to what it tells. %[1]s and %[2]s are the
// server's addresses, %[3]s more rules.
const rules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  rules:
  - name: ask
    egress:
    - toCIDR: ["%[1]s/32", "%[2]s/128"]
      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "**.good.example"}, {matchPattern: "**.other.example"}]}}]
  - name: named
    egress:
    - toFQDNs: [{matchPattern: "**.good.example"}]
      toPorts: [{ports: [{port: "443", protocol: UDP}, {port: "7777", protocol: TCP}]}]
%[3]s`

// scene is a pod of two containers behind a gate, and a resolver.
type scene struct {
	*testutil.Net
	node     *pod.Node
	kernel   *probes.Kernel
	judge    *judge.Judge
	names    *judge.Names
	gate     *gate.Gate
	veth     gate.Veth
	a, b     *pod.Container
	resolver *resolver

	events *attached.Recorder
}

func newScene(t *testing.T, names probes.Names) *scene {
	t.Helper()
	s := newPod(t, names)
	s.resolver = newResolver(t, s, s.ServerAddr, s.ServerAddr6)
	s.resolver.listenTCP(t, s)
	return s
}

// newPod is a scene without a resolver.
func newPod(t *testing.T, names probes.Names) *scene {
	t.Helper()
	return newPodOf(t, probes.Config{Names: names})
}

// newPodOf is the same of a kernel side that is configured otherwise.
func newPodOf(t *testing.T, cfg probes.Config) *scene {
	t.Helper()
	s := &scene{node: pod.NewNode(t), Net: testutil.NewNet(t, testutil.NetOptions{})}
	s.kernel, s.judge = attached.Open(t, s.node, cfg, attached.Enforcing())
	var err error
	if s.names, err = judge.OpenNames(s.kernel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.names.Close() }) // a handle
	if s.gate, err = gate.Attach(s.kernel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.gate.Close() }) // handles only
	s.events = attached.Record(t, s.kernel)
	ns, err := netns.GetFromPath(s.Pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() }) // read only
	s.a, s.b = s.node.Container(t, "a", ns), s.node.Container(t, "b", ns)
	s.swap(t, "")
	s.veth = gate.Veth{Ifindex: uint32(s.Gate.Attrs().Index), NetNS: s.Pod.Cookie(t), Container: s.a.ID}
	s.Node.Do(t, func() error { return s.gate.Govern(s.veth) })
	return s
}

// swap puts the policy with more rules in force.
func (s *scene) swap(t *testing.T, more string) {
	t.Helper()
	s.enforce(t, fmt.Appendf(nil, rules, s.ServerAddr, s.ServerAddr6, more))
}

// enforce puts policies in force for both containers.
func (s *scene) enforce(t *testing.T, text []byte) {
	t.Helper()
	policies, err := policy.Parse("names", text)
	if err != nil {
		t.Fatal(err)
	}
	workload := func(c *pod.Container) compile.Workload {
		return compile.Workload{Key: c.ID, Namespace: "default", Pod: "pod", Container: "c", ContainerType: "App"}
	}
	attached.InForce(t, s.judge, compile.Enforced{}, compile.Input{Policies: policies, Workloads: []compile.Workload{workload(s.a), workload(s.b)}})
}

// resolver is a DNS server in the server's namespace that answers every query as respond says.
type resolver struct {
	mu      sync.Mutex
	asked   []string
	respond func(query []byte, q dnsmessage.Question) [][]byte
	conns   []*net.UDPConn
	running sync.WaitGroup
	piece   int     // how many bytes of an answer over TCP are written at a time
	halves  *halves // not nil: how answers over TCP are cut
	resets  int     // of connections over TCP
}

// halves is an answer over TCP that is written half at first.
type halves struct {
	written chan struct{} // one is sent for each first half
	rest    chan struct{} // closed: the second halves may be written
}

// inHalves makes the resolver wait behind the first half of what it writes over TCP.
func (r *resolver) inHalves() *halves {
	h := &halves{written: make(chan struct{}, 100), rest: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.halves = h
	return h
}

// await waits until a first half was written.
func (h *halves) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.written:
	case <-time.After(3 * patience):
		t.Fatal("no half of an answer is written")
	}
}

// newResolver answers at addresses of the server, each name with addresses of its own.
func newResolver(t *testing.T, s *scene, addresses ...netip.Addr) *resolver {
	t.Helper()
	r := &resolver{respond: func(query []byte, q dnsmessage.Question) [][]byte {
		return [][]byte{answer(query, q, 60, unique(q)...)}
	}}
	for _, addr := range addresses {
		var conn *net.UDPConn
		s.Server.Do(t, func() (err error) {
			conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 53)))
			return err
		})
		r.conns = append(r.conns, conn)
		r.running.Go(func() { testutil.ServeDNS(conn, r.reply) })
	}
	t.Cleanup(func() {
		for _, conn := range r.conns {
			_ = conn.Close() // what ends ServeDNS
		}
		r.running.Wait()
	})
	return r
}

// reply remembers what was asked for, and answers as the test wants it.
func (r *resolver) reply(query []byte, m *dnsmessage.Message) [][]byte {
	r.mu.Lock()
	r.asked = append(r.asked, m.Questions[0].Name.String())
	respond := r.respond
	r.mu.Unlock()
	return respond(query, m.Questions[0])
}

// with makes the resolver answer otherwise.
func (r *resolver) with(respond func(query []byte, q dnsmessage.Question) [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.respond = respond
}

// wasAsked says whether a query for a name has arrived.
func (r *resolver) wasAsked(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.asked, func(n string) bool { return strings.EqualFold(n, name) })
}

// unique gives every name addresses of its own.
func unique(q dnsmessage.Question) []netip.Addr {
	var sum uint32 = 2166136261
	for _, c := range []byte(q.Name.String()) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	b := [4]byte{10, byte(sum >> 16), byte(sum >> 8), byte(sum)}
	if q.Type == dnsmessage.TypeAAAA {
		return []netip.Addr{netip.AddrFrom16([16]byte{0xfd, 1, 13: b[1], 14: b[2], 15: b[3]})}
	}
	return []netip.Addr{netip.AddrFrom4(b)}
}

// answer answers a query with addresses.
func answer(query []byte, q dnsmessage.Question, ttl uint32, addresses ...netip.Addr) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(query[0])<<8 | uint16(query[1]), Response: true, RecursionAvailable: true})
	b.EnableCompression()
	must(b.StartQuestions())
	must(b.Question(q))
	must(b.StartAnswers())
	for _, a := range addresses {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
		if a.Is4() {
			must(b.AResource(h, dnsmessage.AResource{A: a.As4()}))
		} else {
			must(b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	message, err := b.Finish()
	must(err)
	return message
}

// ask sends a query from a socket of its own and waits for the answer.
func (s *scene) ask(t *testing.T, from *insider, socket int, q []byte, wait time.Duration) report {
	t.Helper()
	from.want(t, "ok", order{Do: "open", ID: socket, Network: "udp4", Address: ":0"})
	from.want(t, "ok", order{Do: "send", ID: socket, Address: at(s.ServerAddr, 53), Bytes: q})
	return from.do(t, order{Do: "receive", ID: socket, Wait: wait})
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
