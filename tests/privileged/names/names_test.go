package names

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// some is less in an emulated guest.
func some(n int) int {
	if testutil.InVM() {
		return n / 20
	}
	return n
}

// TestConnectRightAfterTheAnswer: what a read answer tells can be connected to, every time.
func TestConnectRightAfterTheAnswer(t *testing.T) {
	s := newScene(t, probes.Names{Most: 20000})
	a := newInsider(t, s.a)
	for _, resolver := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		n := some(10000)
		r := a.want(t, "ok", order{Do: "rounds", Address: at(resolver, 53), Name: "n%d.Good.Example.", Count: n, Wait: patience})
		if r.Missed != 0 || r.Lost != 0 {
			t.Errorf("resolver %s: %d misses and %d lost answers in %d rounds", resolver, r.Missed, r.Lost, n)
		}
	}
	a.want(t, "EPERM", order{Do: "connect", Address: "10.255.255.255:443"})
}

// TestSwapsLoseNoName: the policy changes all the time, names stay and nothing is judged by half of one.
func TestSwapsLoseNoName(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	first := dnsmessage.Question{Name: dnsmessage.MustNewName("first.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	s.ask(t, a, 1, query(1, first.Name.String(), first.Type), patience)
	done, ended := make(chan struct{}), make(chan struct{})
	var swaps atomic.Int64
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				s.swap(t, []string{"", "  - {name: more, action: Deny, egress: [{toCIDR: [192.0.2.255/32]}]}\n"}[swaps.Load()%2])
				swaps.Add(1)
			}
		}
	}()
	missed, lost, runs := 0, 0, 0
	for late := time.Now().Add(6 * patience); runs == 0 || swaps.Load() < 2 && time.Now().Before(late); runs++ { // a busy machine swaps slowly
		r := a.want(t, "ok", order{Do: "rounds", Address: at(s.ServerAddr, 53), Name: "n%d.good.example.", Count: some(2000), Wait: 2 * time.Second})
		missed, lost = missed+r.Missed, lost+r.Lost
	}
	close(done)
	<-ended
	if missed != 0 || lost > runs*some(2000)/20 {
		t.Errorf("%d misses, %d lost answers during %d swaps", missed, lost, swaps.Load())
	}
	if swaps.Load() < 2 {
		t.Errorf("only %d swaps", swaps.Load())
	}
	a.want(t, "ok", order{Do: "connect", Address: at(unique(first)[0], 443)})
}

// TestDeniedName: the query does not leave, is answered with REFUSED as a resolver would, and is told.
func TestDeniedName(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp", Address: ":0"})
	for i, resolver := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		for j, name := range []string{"Secret.bad.example.", ".", strings.Repeat("a23456789.", 25) + "de."} {
			id := uint16(100*i + j)
			a.want(t, "ok", order{Do: "send", ID: 1, Address: at(resolver, 53), Bytes: query(id, name, dnsmessage.TypeA)})
			r := a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience})
			var m dnsmessage.Message
			if err := m.Unpack(r.Bytes); err != nil {
				t.Fatalf("what comes back for %s is no message: %x: %v", name, r.Bytes, err)
			}
			if m.ID != id || !m.Response || m.RCode != dnsmessage.RCodeRefused || !m.RecursionDesired || !m.RecursionAvailable ||
				len(m.Questions) != 1 || m.Questions[0].Name.String() != name || len(m.Answers)+len(m.Authorities)+len(m.Additionals) != 0 {
				t.Errorf("what comes back for %s is %+v", name, m)
			}
			if s.resolver.wasAsked(name) {
				t.Errorf("the query for %s arrived at the resolver", name)
			}
		}
	}
	e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Query == "secret.bad.example" })
	if e.Verdict != event.VerdictDeny || e.Reason != event.ReasonRule || e.Rule == 0 || e.Answer || e.QType != 1 || e.Subject.Container != s.a.ID {
		t.Errorf("the denial is told as %+v", e)
	}
	// What is no query is not sent at all.
	a.want(t, "EPERM", order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: []byte("no query at all")})
	e = s.events.Wait(t, "the malformed query", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Reason == event.ReasonMalformed })
	if e.Query != "" {
		t.Errorf("the malformed query is told with the name %q of another", e.Query)
	}
	// An allowed one on the same socket, and the denied one again.
	a.want(t, "ok", order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(8, "x.good.example.", dnsmessage.TypeA)})
	if r := a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience}); len(told(r.Bytes)) != 1 {
		t.Error("the answer tells no address")
	}
	a.want(t, "ok", order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(0, "Secret.bad.example.", dnsmessage.TypeA)})
	a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience})
	if s.resolver.wasAsked("secret.bad.example.") {
		t.Error("the denied query arrived at the resolver")
	}
}

// TestDeniedNameWithoutGate: where nothing can answer, the send fails.
func TestDeniedNameWithoutGate(t *testing.T) {
	s := newScene(t, probes.Names{})
	if err := s.gate.Release(s.veth); err != nil {
		t.Fatal(err)
	}
	a := newInsider(t, s.a)
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: ":0"})
	a.want(t, "EPERM", order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(7, "secret.bad.example.", dnsmessage.TypeA)})
	if s.resolver.wasAsked("secret.bad.example.") {
		t.Error("the denied query arrived at the resolver")
	}
}

// TestForged: only an answer to the very query fills, and what is not one is not delivered.
func TestForged(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	evil := netip.MustParseAddr("10.66.6.6")
	question := func(name string, kind dnsmessage.Type) dnsmessage.Question {
		return dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}
	}
	const name = "hOsT.good.example."
	for i, forge := range []struct {
		what  string
		reply func(query []byte, q dnsmessage.Question) []byte
	}{
		{"another id", func(query []byte, q dnsmessage.Question) []byte { query[1]++; return answer(query, q, 60, evil) }},
		{"another name", func(query []byte, _ dnsmessage.Question) []byte {
			return answer(query, question("other.good.example.", 1), 60, evil)
		}},
		{"another case", func(query []byte, _ dnsmessage.Question) []byte {
			return answer(query, question("host.good.example.", 1), 60, evil)
		}},
		{"another type", func(query []byte, _ dnsmessage.Question) []byte {
			return answer(query, question(name, dnsmessage.TypeAAAA), 60, evil)
		}},
		{"an owner of its own", func(query []byte, q dnsmessage.Question) []byte {
			forged := answer(query, q, 60, evil)
			return append(forged, 0)
		}},
		{"cut short", func(query []byte, q dnsmessage.Question) []byte {
			forged := answer(query, q, 60, evil)
			return forged[:len(forged)-1]
		}},
	} {
		t.Run(forge.what, func(t *testing.T) {
			s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
				return [][]byte{forge.reply(append([]byte{}, query...), q), answer(query, q, 60, unique(q)...), answer(query, q, 60, evil)}
			})
			r := s.ask(t, a, i, query(uint16(i), name, dnsmessage.TypeA), patience)
			if got := told(r.Bytes); len(got) != 1 || got[0] != unique(question(name, 1))[0] {
				t.Errorf("what arrives first is %s %v", r.Errno, got)
			}
			a.want(t, "timeout", order{Do: "receive", ID: i, Wait: impatience})
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
			a.want(t, "ok", order{Do: "connect", Address: at(unique(question(name, 1))[0], 443)})
		})
	}
	s.events.Wait(t, "an answer to nothing", func(e event.Event) bool {
		return e.Kind == event.KindDNS && e.Answer && e.Reason == event.ReasonUnasked && e.Verdict == event.VerdictDrop
	})
	s.events.Wait(t, "a malformed answer", func(e event.Event) bool {
		return e.Kind == event.KindDNS && e.Answer && e.Reason == event.ReasonMalformed
	})
}

// TestOthersAnswers: what one container is told says nothing to another, and a name that no toFQDNs matches nothing to
// anybody.
func TestOthersAnswers(t *testing.T) {
	s := newScene(t, probes.Names{})
	a, b := newInsider(t, s.a), newInsider(t, s.b)
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("x.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	s.ask(t, a, 1, query(1, q.Name.String(), q.Type), patience)
	a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
	a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 80)})
	if got := s.names.PeerName(s.a.ID, unique(q)[0]); got != "x.good.example" {
		t.Errorf("the address is reported as %q", got)
	}
	if got := s.names.PeerName(s.b.ID, unique(q)[0]); got != "" {
		t.Errorf("the address is reported as %q to a container that was not told it", got)
	}
	b.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 443)})
	q.Name = dnsmessage.MustNewName("x.other.example.")
	if r := s.ask(t, a, 2, query(1, q.Name.String(), q.Type), patience); len(told(r.Bytes)) != 1 {
		t.Error("a name that may be asked for got no answer")
	}
	a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 443)})
	if got, err := s.names.Told(s.a.ID, unique(q)[0]); err != nil || !slices.Equal(got, []string{"x.other.example"}) {
		t.Errorf("the address has the names %q: %v", got, err)
	}
	// A rule for it, from now on: what was told before counts.
	s.swap(t, "  - {name: more, egress: [{toFQDNs: [{matchName: x.other.example}]}]}\n")
	a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
}

// TestHundredsOfAddresses of one answer are all known.
func TestHundredsOfAddresses(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	var all []netip.Addr
	for i := range 500 {
		all = append(all, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
	}
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte { return [][]byte{answer(query, q, 60, all...)} })
	if r := s.ask(t, a, 1, query(1, "many.good.example.", dnsmessage.TypeA), patience); len(told(r.Bytes)) != len(all) {
		t.Fatalf("the answer arrives with %d addresses: %s", len(told(r.Bytes)), r.Errno)
	}
	for _, addr := range all {
		a.want(t, "ok", order{Do: "connect", Address: at(addr, 443)})
	}
}

// shortLife is how long a name lives where a test waits for its end: long enough to use it on a slow machine.
const shortLife = 6 * time.Second

// TestExpiry: after its time an address is no more known by its name, to who connects anew. A connection that is there
// goes on, also when the policy changes.
func TestExpiry(t *testing.T) {
	s := newScene(t, probes.Names{LeastTTL: shortLife})
	a := newInsider(t, s.a)
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte { return [][]byte{answer(query, q, 0, s.ServerAddr)} })
	asked := time.Now()
	s.ask(t, a, 1, query(1, "live.good.example.", dnsmessage.TypeA), patience)
	a.want(t, "ok", order{Do: "dial", ID: 1, Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	a.want(t, "ok", order{Do: "echo", ID: 1})
	if got, err := s.names.Told(s.a.ID, s.ServerAddr); err != nil || !slices.Equal(got, []string{"live.good.example"}) {
		t.Errorf("the address has the names %q: %v", got, err)
	}
	time.Sleep(time.Until(asked.Add(shortLife + time.Second)))
	if got, err := s.names.Told(s.a.ID, s.ServerAddr); err != nil || got != nil {
		t.Errorf("after its time, before the sweep, the address has the names %q: %v", got, err)
	}
	swept, err := s.names.Sweep()
	if err != nil || swept.Addresses != 1 || swept.Names != 0 {
		t.Errorf("the sweep took %+v: %v", swept, err)
	}
	if got := s.names.PeerName(s.a.ID, s.ServerAddr); got != "" {
		t.Errorf("after its time the address is reported as %q", got)
	}
	a.want(t, "EPERM", order{Do: "dial", ID: 2, Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	a.want(t, "ok", order{Do: "echo", ID: 1})
	s.swap(t, "  - {name: more, action: Deny, egress: [{toCIDR: [192.0.2.255/32]}]}\n")
	a.want(t, "ok", order{Do: "echo", ID: 1})
	a.want(t, "EPERM", order{Do: "dial", ID: 2, Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	// Asked again, it is known again.
	s.ask(t, a, 2, query(2, "live.good.example.", dnsmessage.TypeA), patience)
	a.want(t, "ok", order{Do: "dial", ID: 2, Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	// The rule goes, and with it what it allowed.
	s.swap(t, "  - {name: more, action: Deny, egress: [{toFQDNs: [{matchName: live.good.example}]}]}\n")
	if r := a.do(t, order{Do: "echo", ID: 1}); r.Errno == "ok" {
		t.Error("a connection goes on against a rule that denies its name")
	}
}

// TestBound: a container is told no more than it may have, which is told; what goes makes room.
func TestBound(t *testing.T) {
	s := newScene(t, probes.Names{Most: 100, LeastTTL: shortLife})
	a, b := newInsider(t, s.a), newInsider(t, s.b)
	var all []netip.Addr
	for i := range 150 {
		all = append(all, netip.AddrFrom4([4]byte{10, 8, 0, byte(i)}))
	}
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte { return [][]byte{answer(query, q, 0, all...)} })
	ask := func(from *insider, socket int, from0, to int) {
		t.Helper()
		all := all
		s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
			return [][]byte{answer(query, q, 0, all[from0:to]...)}
		})
		if r := s.ask(t, from, socket, query(1, "many.good.example.", dnsmessage.TypeA), patience); len(told(r.Bytes)) != to-from0 {
			t.Fatalf("%d addresses arrive: %s", len(told(r.Bytes)), r.Errno)
		}
	}
	ask(a, 1, 0, 150)
	a.want(t, "ok", order{Do: "connect", Address: at(all[99], 443)})
	a.want(t, "EPERM", order{Do: "connect", Address: at(all[100], 443)})
	e := s.events.Wait(t, "that the bound was reached", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Reason == event.ReasonNamesFull })
	if e.Verdict != event.VerdictAudit || e.Would != event.VerdictDeny || e.Query != "many.good.example" || e.Subject.Container != s.a.ID {
		t.Errorf("the bound is told as %+v", e)
	}
	ask(b, 1, 100, 150) // another's bound is another's
	b.want(t, "ok", order{Do: "connect", Address: at(all[120], 443)})
	time.Sleep(shortLife + time.Second)
	if swept, err := s.names.Sweep(); err != nil || swept.Addresses != 150 {
		t.Errorf("the sweep took %+v: %v", swept, err)
	}
	ask(a, 2, 100, 150)
	a.want(t, "ok", order{Do: "connect", Address: at(all[120], 443)})
	if err := s.names.Forget(s.a.ID); err != nil {
		t.Error(err)
	}
	a.want(t, "EPERM", order{Do: "connect", Address: at(all[120], 443)})
}
