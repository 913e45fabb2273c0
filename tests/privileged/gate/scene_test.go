// Package gate tests GATE with real traffic: processes in containers made by hand, a pod's veth with the programs on
// its node's side, a server behind the node. What judges the sockets is the strongest step of the ladder that the kernel
// has. The packet programs alone are tested in tests/bpf/gate.
package gate

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"structs"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// scene is a pod of three containers behind a gate: web may do what the policy allows, locked nothing, and free is
// governed by no rule.
type scene struct {
	*testutil.Net
	node              *pod.Node
	kernel            *probes.Kernel
	judge             *judge.Judge
	gate              *gate.Gate
	veth              gate.Veth
	pod               netns.NsHandle
	web, locked, free *pod.Container

	events *attached.Recorder
}

// Ports of the tests' servers: of the pod, and of nobody.
const (
	podPort    = 9000
	closedPort = 9001
)

// rules is what web may do: %[1]s and %[2]s are the server's addresses, %[3]s more rules.
const rules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
  - name: udp
    egress: [{toCIDR: ["%[1]s/32", "%[2]s/128"], toPorts: [{ports: [{port: "7777", endPort: 7778, protocol: UDP}]}]}]
  - name: ping
    egress: [{toCIDR: ["%[1]s/32", "%[2]s/128"], toPorts: [{ports: [{protocol: ICMP}, {protocol: ICMPv6}]}]}]
  - name: in
    ingress: [{fromCIDR: ["%[1]s/32", "%[2]s/128"], toPorts: [{ports: [{port: "9000", protocol: TCP}, {port: "9000", protocol: UDP}]}]}]
%[3]s
---
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: locked, namespace: default}
spec:
  podSelector: {matchLabels: {app: locked}}
  rules: [{name: nothing, action: Deny}]
`

const tcpRule = `
  - name: tcp
    egress: [{toCIDR: ["%[1]s/32", "%[2]s/128"], toPorts: [{ports: [{port: "7777", endPort: 7778, protocol: TCP}]}]}]
`

const closedRule = `
  - name: closed
    ingress: [{fromCIDR: ["%[1]s/32", "%[2]s/128"], toPorts: [{ports: [{port: "9001", protocol: ANY}]}]}]
`

// newScene builds it, with every program attached. flows is the size of the flow table, 0 the built-in one.
func newScene(t *testing.T, flows uint32) *scene {
	t.Helper()
	s := &scene{node: pod.NewNode(t)}
	s.Net = testutil.NewNet(t, testutil.NetOptions{})
	s.kernel, s.judge = attached.Open(t, s.node, probes.Config{Sizes: probes.Sizes{Flows: flows}}, attached.Enforcing())
	var err error
	if s.gate, err = gate.Attach(s.kernel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.gate.Close() }) // closes handles only
	s.events = attached.Record(t, s.kernel)
	if s.pod, err = netns.GetFromPath(s.Pod.Path()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.pod.Close() }) // read only
	s.web, s.locked, s.free = s.node.Container(t, "web", s.pod), s.node.Container(t, "locked", s.pod), s.node.Container(t, "free", s.pod)
	s.swap(t, tcpRule)
	s.veth = gate.Veth{Ifindex: uint32(s.Gate.Attrs().Index), NetNS: s.Pod.Cookie(t), Container: s.web.ID}
	s.govern(t)
	return s
}

// govern puts the gate in place; interface numbers are those of the thread's network namespace.
func (s *scene) govern(t *testing.T) {
	t.Helper()
	s.Node.Do(t, func() error { return s.gate.Govern(s.veth) })
}

// swap puts the policy with more rules in force.
func (s *scene) swap(t *testing.T, more string) {
	t.Helper()
	if more != "" {
		more = fmt.Sprintf(more, s.ServerAddr, s.ServerAddr6)
	}
	policies, err := policy.Parse("gate", fmt.Appendf(nil, rules, s.ServerAddr, s.ServerAddr6, more))
	if err != nil {
		t.Fatal(err)
	}
	workload := func(c *pod.Container, app string) compile.Workload {
		return compile.Workload{Key: c.ID, Namespace: "default", Pod: "pod", Container: app, ContainerType: "App", Labels: map[string]string{"app": app}}
	}
	attached.InForce(t, s.judge, compile.Enforced{}, compile.Input{
		Policies:  policies,
		Workloads: []compile.Workload{workload(s.web, "web"), workload(s.locked, "locked"), workload(s.free, "free")},
	})
}

// seen returns the events of a kind so far.
func (s *scene) seen(kind event.Kind) []event.Event {
	return s.events.Find(func(e event.Event) bool { return e.Kind == kind })
}

// expectNoForeign fails if any packet was dropped as foreign.
func (s *scene) expectNoForeign(t *testing.T) {
	t.Helper()
	for _, e := range s.seen(event.KindForeign) {
		t.Errorf("foreign: %d packets of protocol %d from %s to %s, reason %d", e.Packets, e.Protocol, e.Local, e.Remote, e.Reason)
	}
}

// gateEntry is struct gate of bpf/include/abi/state.h.
type gateEntry struct {
	_     structs.HostLayout
	NetNS uint64
	Told  uint64
	Held  uint64
}

// pinned opens a map of the kernel side.
func (s *scene) pinned(t *testing.T, name string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.node.BPFFS, "sallyport", name), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // read only
	return m
}

// held is how many foreign packets the gate has dropped and not yet reported.
func (s *scene) held(t *testing.T) uint64 {
	t.Helper()
	var g gateEntry
	if err := s.pinned(t, "gate_by_ifindex").Lookup(s.veth.Ifindex, &g); err != nil {
		t.Fatal(err)
	}
	return g.Held
}

// family is one IP version's addresses.
type family struct {
	name              string
	pod, node, server netip.Addr
}

func (s *scene) families() []family {
	return []family{{"4", s.PodAddr, s.NodeAddr, s.ServerAddr}, {"6", s.PodAddr6, s.NodeAddr6, s.ServerAddr6}}
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// dialFrom connects from a namespace of the test.
func dialFrom(t *testing.T, ns *testutil.NetNS, network, address string, wait time.Duration) (net.Conn, error) {
	t.Helper()
	return dialAs(t, ns, nil, network, address, wait)
}

// dialAs connects from a namespace of the test and, unless nil, from an address of its own.
func dialAs(t *testing.T, ns *testutil.NetNS, own net.Addr, network, address string, wait time.Duration) (conn net.Conn, err error) {
	t.Helper()
	ns.Do(t, func() error {
		dialer := net.Dialer{Timeout: wait, LocalAddr: own}
		conn, err = dialer.Dial(network, address)
		return nil
	})
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() }) // some tests have closed it
	}
	return conn, err
}

// hostCommand starts a process of the node in the pod's network namespace, in a cgroup that is no container's.
func (s *scene) hostCommand(t *testing.T, args ...string) *pod.Process {
	t.Helper()
	outside := &pod.Container{Dir: s.node.Cgroup(t, "system"), NS: s.pod}
	p := outside.Command(args...)
	p.HostMounts = true
	p.Start(t)
	return p
}
