package names

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// asking lets web ask the server for names, and make any request there. %s are the mode and the server's address.
const asking = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: %[1]s
  rules:
  - name: ask
    egress:
    - toCIDR: ["%[2]s/32"]
      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "**.example"}, {matchPattern: "**.local"}]}}]
    - toCIDR: ["%[2]s/32"]
      toPorts: [{ports: [{port: "7777", protocol: TCP}], rules: {http: [{method: GET}]}}]
`

// TestFronting: a request for another site than the address was told by is told, and denied where the configuration says so;
// not under a policy in Audit.
func TestFronting(t *testing.T) {
	for _, test := range []struct {
		refuse bool
		mode   policy.Mode
		want   event.Verdict
	}{{true, policy.ModeEnforce, event.VerdictDeny}, {false, policy.ModeEnforce, event.VerdictAudit}, {true, policy.ModeAudit, event.VerdictAudit}} {
		t.Run(fmt.Sprint(test.mode, " refuse ", test.refuse), func(t *testing.T) {
			s := newFronted(t, probes.Config{FrontTell: true, FrontRefuse: test.refuse})
			s.enforce(t, fmt.Appendf(nil, asking, test.mode, s.ServerAddr))
			a := newInsider(t, s.a)
			for i, name := range []string{"site.good.example.", "web.shop.svc.cluster.local."} {
				s.ask(t, a, 100+i, query(uint16(i), name, dnsmessage.TypeA), patience)
			}
			for i, host := range []string{
				"site.good.example", "SITE.Good.example", "site.good.example:7777", "site.good.example.", "web", "web.shop", s.ServerAddr.String(), "[2001:db8::1]:80",
			} {
				if !s.passes(t, a, i, host) {
					t.Errorf("a request for %q, as which the address was told, does not pass", host)
				}
			}
			if told := s.events.Find(isFronted); len(told) > 0 {
				t.Errorf("told: %+v", told[0])
			}
			for i, host := range []string{"evil.example", "site.good.example.evil.example", "site.good.exampl", "te.good.example", "1.evil.example", strings.Repeat("a", 60) + ".evil.example"} {
				s.events.Reset()
				if passes := s.passes(t, a, 50+i, host); passes != (test.want == event.VerdictAudit) {
					t.Errorf("a request for %q: passes is %v", host, passes)
				}
				e := s.events.Wait(t, "the fronting", isFronted)
				if e.Verdict != test.want || e.Host != host || e.Severity < event.SeverityWarning || e.Subject.Container != s.a.ID {
					t.Errorf("a request for %q is told as %+v", host, e)
				}
			}
		})
	}
}

// TestFrontingOfStrangers: of an address that DNS has told nothing about nothing is said, nor where the configuration allows it.
func TestFrontingOfStrangers(t *testing.T) {
	for _, tell := range []bool{true, false} {
		t.Run(fmt.Sprint("told ", tell), func(t *testing.T) {
			s := newFronted(t, probes.Config{FrontTell: tell, FrontRefuse: true})
			s.enforce(t, fmt.Appendf(nil, asking, policy.ModeEnforce, s.ServerAddr))
			a := newInsider(t, s.a)
			if !tell {
				s.ask(t, a, 100, query(1, "site.good.example.", dnsmessage.TypeA), patience)
			}
			if !s.passes(t, a, 1, "evil.example") {
				t.Error("a request does not pass")
			}
		})
	}
}

func isFronted(e event.Event) bool {
	return e.Kind == event.KindRequest && e.Reason == event.ReasonFronted
}

// newFronted is a scene whose resolver has the server's address for every name.
func newFronted(t *testing.T, cfg probes.Config) *scene {
	t.Helper()
	s := newPodOf(t, cfg)
	s.resolver = newResolver(t, s, s.ServerAddr)
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		return [][]byte{answer(query, q, 60, s.ServerAddr)}
	})
	return s
}

// passes says whether a request for a host comes to the server, which sends back what comes.
func (s *scene) passes(t *testing.T, a *insider, id int, host string) bool {
	t.Helper()
	a.want(t, "ok", order{Do: "dial", ID: id, Network: "tcp", Address: netip.AddrPortFrom(s.ServerAddr, testutil.EchoPort).String()})
	a.want(t, "ok", order{Do: "write", ID: id, Bytes: []byte("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"), Count: 1 << 16})
	r := a.do(t, order{Do: "read", ID: id, Wait: patience})
	defer a.do(t, order{Do: "close", ID: id})
	switch text := string(r.Bytes); {
	case strings.HasPrefix(text, "GET / "):
		return true
	case strings.HasPrefix(text, "HTTP/1.1 403 "):
	default:
		t.Errorf("a request for %q gets %q, %s", host, text, r.Errno)
	}
	return false
}
