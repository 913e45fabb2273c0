package names

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// plainDNS lets web speak to the addresses %[1]s and %[2]s at port 53, whatever it says there.
const plainDNS = "  - {name: plain, egress: [{toCIDR: [%[1]s/32, %[2]s/128], toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]}\n"

// namesOfOthers lets web ask two more addresses for names of good.example.
const namesOfOthers = "  - {name: others, egress: [{toCIDR: [%[1]s/32, %[2]s/128], toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '**.good.example'}]}}]}]}\n"

// secondResolver is another resolver at addresses of its own.
func (s *scene) secondResolver(t *testing.T) (r *resolver, addresses []netip.Addr) {
	t.Helper()
	h := s.Server.Handle(t)
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range []netip.Prefix{netip.PrefixFrom(s.ServerAddr.Next(), 29), netip.PrefixFrom(s.ServerAddr6.Next(), 64)} {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), own.Addr().BitLen())}}
		if own.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(eth0, addr); err != nil {
			t.Fatalf("giving the server the address %s: %v", own, err)
		}
		addresses = append(addresses, own.Addr())
	}
	return newResolver(t, s, addresses...), addresses
}

// TestAnotherResolver: what a resolver says that a rule without rules.dns allows arrives and teaches nothing. The
// resolver of a rule with rules.dns teaches the same name.
func TestAnotherResolver(t *testing.T) {
	s := newScene(t, probes.Names{})
	evil := netip.MustParseAddr("10.66.6.6")
	second, others := s.secondResolver(t)
	second.with(func(query []byte, q dnsmessage.Question) [][]byte { return [][]byte{answer(query, q, 60, evil)} })
	s.swap(t, fmt.Sprintf(plainDNS, others[0], others[1]))
	a := newInsider(t, s.a)
	for i, resolver := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		t.Run(resolver.String(), func(t *testing.T) {
			q := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("n%d.good.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
			exchange := func(socket int, with netip.Addr) netip.Addr {
				t.Helper()
				a.want(t, "ok", order{Do: "open", ID: socket, Network: "udp", Address: ":0"})
				a.want(t, "ok", order{Do: "send", ID: socket, Address: at(with, 53), Bytes: query(uint16(i), q.Name.String(), q.Type)})
				r := a.want(t, "ok", order{Do: "receive", ID: socket, Wait: patience})
				got := told(r.Bytes)
				if len(got) != 1 {
					t.Fatalf("%s tells %v", with, got)
				}
				return got[0]
			}
			if got := exchange(10*i, others[i]); got != evil || !second.wasAsked(q.Name.String()) {
				t.Fatalf("the second resolver is not who tells %s", got)
			}
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
			if got := s.names.PeerName(s.a.ID, evil); got != "" {
				t.Errorf("what the second resolver tells is reported as %q", got)
			}
			if got := exchange(10*i+1, resolver); got != unique(q)[0] {
				t.Fatalf("the first resolver is not who tells %s", got)
			}
			a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
		})
	}
}

// TestForgedFromAnotherAddress: a resolver that may be asked too does not answer what went to another, not even at the very
// port with the very id and name.
func TestForgedFromAnotherAddress(t *testing.T) {
	s := newScene(t, probes.Names{})
	evil := netip.MustParseAddr("10.66.6.6")
	second, others := s.secondResolver(t)
	s.swap(t, fmt.Sprintf(namesOfOthers, others[0], others[1]))
	a := newInsider(t, s.a)
	s.resolver.with(func([]byte, dnsmessage.Question) [][]byte { return nil })
	for i, local := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		t.Run(local.String(), func(t *testing.T) {
			from, asked := netip.AddrPortFrom(local, 5300), []netip.Addr{s.ServerAddr, s.ServerAddr6}[i]
			q := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("waits%d.good.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
			text := query(9, q.Name.String(), q.Type)
			a.want(t, "ok", order{Do: "open", ID: i, Network: "udp", Address: from.String()})
			// Asked itself it teaches, and from then on its packets are answers.
			before := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("before%d.good.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
			a.want(t, "ok", order{Do: "send", ID: i, Address: at(others[i], 53), Bytes: query(1, before.Name.String(), before.Type)})
			a.want(t, "ok", order{Do: "receive", ID: i, Wait: patience})
			a.want(t, "ok", order{Do: "connect", Address: at(unique(before)[0], 443)})
			a.want(t, "ok", order{Do: "send", ID: i, Address: at(asked, 53), Bytes: text})
			say := func(conn *net.UDPConn, message []byte) {
				t.Helper()
				if _, err := conn.WriteToUDPAddrPort(message, from); err != nil {
					t.Fatal(err)
				}
			}
			say(second.conns[i], answer(text, q, 60, evil))
			a.want(t, "timeout", order{Do: "receive", ID: i, Wait: impatience})
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
			say(s.resolver.conns[i], answer(text, q, 60, unique(q)...))
			r := a.want(t, "ok", order{Do: "receive", ID: i, Wait: patience})
			if got := told(r.Bytes); len(got) != 1 || got[0] != unique(q)[0] {
				t.Errorf("the answer of who was asked is %v", got)
			}
			a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
		})
	}
	s.events.Wait(t, "an answer to nothing", func(e event.Event) bool {
		return e.Kind == event.KindDNS && e.Answer && e.Reason == event.ReasonUnasked && e.Verdict == event.VerdictDrop
	})
}

// TestPlainRuleBesideNames: a name that only a rule without rules.dns lets a program ask the resolver for teaches nothing,
// although another rule has rules.dns for that resolver.
func TestPlainRuleBesideNames(t *testing.T) {
	s := newScene(t, probes.Names{})
	s.swap(t, fmt.Sprintf(plainDNS, s.ServerAddr, s.ServerAddr6)+"  - {name: third, egress: [{toFQDNs: [{matchName: www.third.example}]}]}\n")
	a := newInsider(t, s.a)
	for i, tt := range []struct{ name, errno string }{{"www.third.example.", "EPERM"}, {"www.good.example.", "ok"}} {
		q := dnsmessage.Question{Name: dnsmessage.MustNewName(tt.name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
		if r := s.ask(t, a, i, query(uint16(i), tt.name, q.Type), patience); len(told(r.Bytes)) != 1 {
			t.Fatalf("%s got no answer: %s", tt.name, r.Errno)
		}
		a.want(t, tt.errno, order{Do: "connect", Address: at(unique(q)[0], 443)})
	}
}
