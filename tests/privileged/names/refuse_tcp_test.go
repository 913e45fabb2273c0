package names

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

const denied = "secret.bad.example."

// wantRefused reads the next message of a stream, the refusal of a query, and the end of the connection behind it.
func wantRefused(t *testing.T, from *insider, stream int, id uint16) {
	t.Helper()
	r := from.want(t, "ok", order{Do: "message", ID: stream, Wait: patience})
	var m dnsmessage.Message
	if err := m.Unpack(r.Bytes); err != nil {
		t.Fatalf("what comes back is no message: %x: %v", r.Bytes, err)
	}
	if m.ID != id || !m.Response || m.RCode != dnsmessage.RCodeRefused || !m.RecursionDesired || !m.RecursionAvailable ||
		len(m.Questions) != 1 || m.Questions[0].Name.String() != denied || len(m.Answers)+len(m.Authorities)+len(m.Additionals) != 0 {
		t.Errorf("what comes back is %+v", m)
	}
	from.want(t, "EOF", order{Do: "message", ID: stream, Wait: patience})
	from.want(t, "ok", order{Do: "close", ID: stream})
}

// wantOver waits until the resolver's ends of all connections have ended by a reset, and the pod has no socket left.
func (s *scene) wantOver(t *testing.T, resets int) {
	t.Helper()
	testutil.Eventually(t, "the resolver hears that the connection is over", func() error {
		s.resolver.mu.Lock()
		defer s.resolver.mu.Unlock()
		if s.resolver.resets < resets {
			return fmt.Errorf("%d resets, want %d", s.resolver.resets, resets)
		}
		return nil
	})
	if s.resolver.wasAsked(denied) {
		t.Error("the denied query arrived at the resolver")
	}
	testutil.Eventually(t, "the client's socket is gone", func() error {
		var all []byte
		s.Pod.Do(t, func() error {
			for _, file := range []string{"tcp", "tcp6"} {
				b, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil {
					return err
				}
				all = append(all, b...)
			}
			return nil
		})
		if i := bytes.Index(all, []byte(":0035 ")); i >= 0 {
			return fmt.Errorf("there is a socket: %s", all[max(0, i-50):i+20])
		}
		return nil
	})
}

// TestRefusedOverTCP: a query that may not be asked is answered as a resolver would, in the order of the connection, which
// then ends at both ends at once.
func TestRefusedOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	resets := 0
	for i, resolver := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		for j, piece := range []int{0, 1, 2, 13} {
			for k, before := range []int{0, 1, 3} {
				stream := 100*i + 10*j + k
				t.Run(fmt.Sprintf("%s, pieces of %d, after %d", resolver, piece, before), func(t *testing.T) {
					a.want(t, "ok", order{Do: "dial", ID: stream, Network: "tcp", Address: at(resolver, 53)})
					for n := range before {
						a.want(t, "ok", order{Do: "write", ID: stream, Bytes: framed(query(uint16(n), "x.good.example.", dnsmessage.TypeA))})
						if r := a.want(t, "ok", order{Do: "message", ID: stream, Wait: patience}); len(told(r.Bytes)) != 1 {
							t.Fatalf("the answer is %x", r.Bytes)
						}
					}
					a.want(t, "ok", order{Do: "write", ID: stream, Bytes: framed(query(77, denied, dnsmessage.TypeA)), Count: piece})
					wantRefused(t, a, stream, 77)
					resets++
					s.wantOver(t, resets)
				})
			}
		}
	}
	e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Query == "secret.bad.example" })
	if e.Verdict != event.VerdictDeny || e.Reason != event.ReasonRule || e.Rule == 0 || e.Answer || e.Subject.Container != s.a.ID {
		t.Errorf("the denial is told as %+v", e)
	}
}

// TestRefusedInOneSegment: what else is in the segment is not answered, and can be asked again, also by the same port.
func TestRefusedInOneSegment(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	local := at(s.PodAddr, 5353)
	for round := range 3 {
		a.want(t, "ok", order{Do: "dial", ID: round, Network: "tcp", Local: local, Address: at(s.ServerAddr, 53)})
		text := framed(query(1, "x.good.example.", dnsmessage.TypeA))
		text = append(text, framed(query(2, denied, dnsmessage.TypeA))...)
		text = append(text, framed(query(3, "y.good.example.", dnsmessage.TypeA))...)
		a.want(t, "ok", order{Do: "write", ID: round, Bytes: text})
		wantRefused(t, a, round, 2)
		s.wantOver(t, round+1)
	}
	if s.resolver.wasAsked("y.good.example.") {
		t.Error("what came behind the denied query arrived at the resolver")
	}
	a.want(t, "ok", order{Do: "dial", ID: 9, Network: "tcp", Local: local, Address: at(s.ServerAddr, 53)})
	a.want(t, "ok", order{Do: "write", ID: 9, Bytes: framed(query(4, "x.good.example.", dnsmessage.TypeA))})
	if r := a.want(t, "ok", order{Do: "message", ID: 9, Wait: patience}); len(told(r.Bytes)) != 1 {
		t.Errorf("a new connection by the same port: the answer is %s %x", r.Errno, r.Bytes)
	}
}

// TestRefusedBehindHalfAnAnswer: the refusal waits until the answer before it is whole.
func TestRefusedBehindHalfAnAnswer(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	halves := s.resolver.inHalves()
	s.dialResolver(t, a, 1)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(1, "x.good.example.", dnsmessage.TypeA))})
	halves.await(t)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(2, denied, dnsmessage.TypeA))})
	s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Query == "secret.bad.example" })
	close(halves.rest)
	if r := a.want(t, "ok", order{Do: "message", ID: 1, Wait: patience}); len(told(r.Bytes)) != 1 {
		t.Errorf("the answer is %s %x", r.Errno, r.Bytes)
	}
	wantRefused(t, a, 1, 2)
	s.wantOver(t, 1)
}

// TestSaidAfterTheRefusal: a client that says more gets what a host says that has closed the connection.
func TestSaidAfterTheRefusal(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	s.dialResolver(t, a, 1)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(1, denied, dnsmessage.TypeA))})
	a.want(t, "ok", order{Do: "message", ID: 1, Wait: patience})
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(2, "late.good.example.", dnsmessage.TypeA))})
	testutil.Eventually(t, "more is reset", func() error {
		if r := a.do(t, order{Do: "write", ID: 1, Bytes: framed(query(3, "later.good.example.", dnsmessage.TypeA))}); r.Errno == "ok" {
			return errors.New("it can still be written")
		}
		return nil
	})
	s.wantOver(t, 1)
	for _, name := range []string{"late.good.example.", "later.good.example."} {
		if s.resolver.wasAsked(name) {
			t.Errorf("%s arrived at the resolver", name)
		}
	}
}

// TestResetOverTCP: the verdict Reset ends the connection without an answer.
func TestResetOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	s.swap(t, "  onViolation: {verdict: Reset}\n")
	a := newInsider(t, s.a)
	s.dialResolver(t, a, 1)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(1, denied, dnsmessage.TypeA))})
	a.want(t, "ECONNRESET", order{Do: "message", ID: 1, Wait: patience})
	s.wantOver(t, 1)
}

// TestOlderConnection: one that was not read until now is reset, so that its client opens another.
func TestOlderConnection(t *testing.T) {
	s := newScene(t, probes.Names{})
	s.enforce(t, []byte(`
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: open, namespace: default}
spec: {podSelector: {}, rules: [{name: all, egress: [{toEntities: [all]}]}]}
`))
	a := newInsider(t, s.a)
	ask := func(stream int) {
		t.Helper()
		a.want(t, "ok", order{Do: "write", ID: stream, Bytes: framed(query(1, "x.good.example.", dnsmessage.TypeA))})
	}
	s.dialResolver(t, a, 1)
	ask(1)
	a.want(t, "ok", order{Do: "message", ID: 1, Wait: patience})
	s.swap(t, "")
	ask(1)
	a.want(t, "ECONNRESET", order{Do: "message", ID: 1, Wait: patience})
	s.wantOver(t, 1)
	s.dialResolver(t, a, 2)
	ask(2)
	a.want(t, "ok", order{Do: "message", ID: 2, Wait: patience})
}

// TestUnreadableOverTCP: what is no query is not sent, and ends the connection.
func TestUnreadableOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	for i, text := range [][]byte{
		framed([]byte("no query at all")),
		framed(append(query(1, "x.good.example.", dnsmessage.TypeA), make([]byte, 4000)...)), // longer than a query is read
		{0, 0, 0},
	} {
		s.dialResolver(t, a, i)
		a.want(t, "ok", order{Do: "write", ID: i, Bytes: text})
		a.want(t, "ECONNRESET", order{Do: "message", ID: i, Wait: patience})
		s.wantOver(t, i+1)
	}
	if s.resolver.wasAsked("x.good.example.") {
		t.Error("what could not be read arrived at the resolver")
	}
}

// TestDeniedNameByLoopback: where no gate is on the way that could answer, what is denied does not leave, though the pod has one.
func TestDeniedNameByLoopback(t *testing.T) {
	s := newScene(t, probes.Names{})
	s.swap(t, "  - {name: local, egress: [{toCIDR: [127.0.0.1/32], toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchPattern: \"**.good.example\"}]}}]}]}\n")
	local := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 53)
	var conn *net.UDPConn
	s.Pod.Do(t, func() (err error) { // a process of the node: nothing judges what it gets
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
		return err
	})
	s.resolver.conns = append(s.resolver.conns, conn) // which the resolver closes
	s.resolver.running.Go(func() { testutil.ServeDNS(conn, s.resolver.reply) })
	a := newInsider(t, s.a)
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: ":0"})
	a.want(t, "EPERM", order{Do: "send", ID: 1, Address: local.String(), Bytes: query(1, denied, dnsmessage.TypeA)})
	a.want(t, "ok", order{Do: "send", ID: 1, Address: local.String(), Bytes: query(2, "x.good.example.", dnsmessage.TypeA)})
	if r := a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience}); len(told(r.Bytes)) != 1 {
		t.Errorf("the answer is %s %x", r.Errno, r.Bytes)
	}
	if s.resolver.wasAsked(denied) {
		t.Error("the denied query arrived at the resolver in the pod")
	}
}
