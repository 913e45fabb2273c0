package names

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
)

// longestChain is how many CNAMEs an answer may have.
const longestChain = 16

// record is of an answer, for a minute.
func record(owner string, kind dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Type: kind, Class: dnsmessage.ClassINET, TTL: 60}
	return dnsmessage.Resource{Header: h, Body: body}
}

// alias says that owner is another name of target.
func alias(owner, target string) dnsmessage.Resource {
	return record(owner, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)})
}

// host says where owner is.
func host(owner string, a netip.Addr) dnsmessage.Resource {
	if a.Is4() {
		return record(owner, dnsmessage.TypeA, &dnsmessage.AResource{A: a.As4()})
	}
	return record(owner, dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: a.As16()})
}

// answerWith answers a query with records of the answer section, and more in the last one.
func answerWith(query []byte, q dnsmessage.Question, answers, additionals []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: uint16(query[0])<<8 | uint16(query[1]), Response: true, RecursionAvailable: true},
		Questions:   []dnsmessage.Question{q},
		Answers:     answers,
		Additionals: additionals,
	}
	message, err := m.Pack()
	must(err)
	return message
}

// chain leads from the name that was asked for, over links of another domain, to the last one's address.
func chain(q dnsmessage.Question, links int, to netip.Addr) (out []dnsmessage.Resource) {
	owner := q.Name.String()
	for i := range links {
		target := fmt.Sprintf("Link%d.cdn.example.", i)
		out = append(out, alias(owner, target))
		owner = target
	}
	return append(out, host(owner, to))
}

// TestConnectRightAfterAChain: what CNAMEs of an answer lead to can be connected to as soon as it is read, by a rule for the
// name that was asked for.
func TestConnectRightAfterAChain(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	for _, links := range []int{1, 2, longestChain} {
		t.Run(fmt.Sprintf("%d links", links), func(t *testing.T) {
			s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
				return [][]byte{answerWith(query, q, chain(q, links, unique(q)[0]), nil)}
			})
			const rounds = 50
			name := fmt.Sprintf("n%%d.links%d.good.example.", links)
			r := a.want(t, "ok", order{Do: "rounds", Address: at(s.ServerAddr, 53), Name: name, Count: rounds, Wait: patience})
			if r.Missed != 0 || r.Lost != 0 {
				t.Errorf("%d misses and %d lost answers in %d rounds", r.Missed, r.Lost, rounds)
			}
		})
	}
}

// TestStrangersInAnAnswer: of the addresses of one answer, those count to which the name that was asked for leads, in
// whatever order its records come. The others reach the program and cannot be connected to.
func TestStrangersInAnAnswer(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	const asked, cdn, stranger = "www.good.example.", "edge.cdn.example.", "stranger.example."
	for i, tt := range []struct {
		what                 string
		answers, additionals func(good, evil netip.Addr) []dnsmessage.Resource
	}{
		{what: "behind the chain", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{alias(asked, cdn), host(cdn, good), host(stranger, evil)}
		}},
		{what: "before a chain that comes backwards", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{host(stranger, evil), host("b.example.", good), alias(cdn, "b.example."), alias(asked, cdn)}
		}},
		{what: "under the domain that rules name", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{alias(asked, cdn), host("other.good.example.", evil), host(cdn, good)}
		}},
		{what: "with a chain of its own", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{alias(stranger, "b.example."), host("b.example.", evil), alias(asked, cdn), host(cdn, good)}
		}},
		{what: "that leads to what was asked for", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{alias(stranger, asked), host(stranger, evil), host(asked, good)}
		}},
		{what: "in a ring", answers: func(good, evil netip.Addr) []dnsmessage.Resource {
			return []dnsmessage.Resource{alias(stranger, "b.example."), alias("b.example.", stranger), host(stranger, evil), host(asked, good)}
		}},
		{
			what: "the asked name itself, among what was not asked for",
			answers: func(good, _ netip.Addr) []dnsmessage.Resource {
				return []dnsmessage.Resource{alias(asked, cdn), host(cdn, good)}
			},
			additionals: func(_, evil netip.Addr) []dnsmessage.Resource {
				return []dnsmessage.Resource{host(asked, evil), host(cdn, evil)}
			},
		},
	} {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			t.Run(fmt.Sprintf("%s, %s", tt.what, kind), func(t *testing.T) {
				own := func(of string) netip.Addr {
					return unique(dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("%s%d.example.", of, i)), Type: kind})[0]
				}
				good, evil := own("good"), own("evil")
				s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
					var additionals []dnsmessage.Resource
					if tt.additionals != nil {
						additionals = tt.additionals(good, evil)
					}
					return [][]byte{answerWith(query, q, tt.answers(good, evil), additionals)}
				})
				a.want(t, "EPERM", order{Do: "connect", Address: at(good, 443)})
				r := s.ask(t, a, i, query(uint16(i), asked, kind), patience)
				if r.Errno != "ok" {
					t.Fatalf("no answer arrives: %s", r.Errno)
				}
				a.want(t, "ok", order{Do: "connect", Address: at(good, 443)})
				a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
				if got := s.names.PeerName(s.a.ID, good); got != "www.good.example" {
					t.Errorf("the address is reported as %q", got)
				}
				if got := s.names.PeerName(s.a.ID, evil); got != "" {
					t.Errorf("the stranger's address is reported as %q", got)
				}
			})
		}
	}
}

// TestChainIntoARule: a rule for a name says nothing of other names that lead to it. Who owns the other name could change
// at any time where it leads.
func TestChainIntoARule(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		const named = "www.good.example."
		return [][]byte{answerWith(query, q, []dnsmessage.Resource{alias(q.Name.String(), named), host(named, unique(q)[0])}, nil)}
	})
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("x.other.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	if r := s.ask(t, a, 1, query(1, q.Name.String(), q.Type), patience); len(told(r.Bytes)) != 1 {
		t.Fatalf("a name that may be asked for got no answer: %s", r.Errno)
	}
	a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 443)})
	if got := s.names.PeerName(s.a.ID, unique(q)[0]); got != "x.other.example" {
		t.Errorf("the address is reported as %q", got)
	}
}
