package parse

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compare holds the parser against the oracle on one message and says what it saw.
func compare(t testing.TB, p *Parser, answer bool, message []byte) string {
	t.Helper()
	want, aliases, wantOK := Reference(answer, message)
	got, gotOK := p.Read(t, answer, message)
	switch {
	case !gotOK && !wantOK:
		return "bad"
	case gotOK && !wantOK:
		t.Fatalf("the parser takes what the oracle refuses: %x\n%+v", message, got)
	case !gotOK:
		why := Strict(message)
		if why == "" {
			t.Fatalf("the parser refuses what the oracle takes: %x\n%+v", message, want)
		}
		return why
	}
	if !answer {
		want.Addresses = nil
	}
	options := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}
	if Twice(aliases) {
		// Which of two aliases of one name gives the time to live is nobody's rule.
		options = append(options, cmp.Comparer(func(a, b Address) bool { return a.Addr == b.Addr }))
	}
	if diff := cmp.Diff(want, got, options); diff != "" {
		t.Fatalf("%x: (-oracle +parser)\n%s", message, diff)
	}
	if len(got.Addresses) > 0 {
		return "addresses"
	}
	return "read"
}

// TestAsDNSMessage: what is well made is read as dnsmessage reads it, all of it; what is near it too, or refused for a
// reason that is named here.
func TestAsDNSMessage(t *testing.T) {
	p, s := Start(t), NewSender(1)
	seen := map[string]int{}
	rounds := 20000
	if testing.Short() {
		rounds = 2000
	}
	for i := range rounds {
		answer := i%4 != 0
		message := s.Query()
		if answer {
			message = s.Answer()
		}
		outcome := compare(t, p, answer, message)
		if outcome != "read" && outcome != "addresses" {
			t.Fatalf("a message of a builder is refused (%s): %x", outcome, message)
		}
		seen[outcome]++
		seen["changed: "+compare(t, p, answer, s.Mutate(message))]++
	}
	t.Log(seen)
	for _, outcome := range []string{"read", "addresses", "changed: bad", "changed: read", "changed: addresses", "changed: a pointer forward", "changed: a zero in a label", "changed: bytes behind the last record"} {
		if seen[outcome] < rounds/2000 {
			t.Errorf("only %d cases of %q: the comparison proves little about it", seen[outcome], outcome)
		}
	}
}

// TestHundredsOfAddresses: more than any datagram of Ethernet holds, and the largest that UDP carries.
func TestHundredsOfAddresses(t *testing.T) {
	p := Start(t)
	for _, n := range []int{0, 1, 77, 500, 4000} {
		m, ok := p.Read(t, true, Many(n))
		if !ok || len(m.Addresses) != n {
			t.Errorf("%d addresses in %d bytes: read %d, %v", n, len(Many(n)), len(m.Addresses), ok)
		}
	}
}

// TestLongWorkIsRefused: a short message in which every owner is a long way of pointers must not be walked to its end.
func TestLongWorkIsRefused(t *testing.T) {
	p := Start(t)
	// A name of 127 labels, and below it a record whose owners all begin with it.
	message := []byte{0, 1, 0x80, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0}
	message = append(message, []byte(strings.Repeat("\x01a", 126)+"\x00\x00\x01\x00\x01")...)
	records := 0
	for len(message) < 60000 {
		message = append(message, 0xc0, 14, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4)
		records++
	}
	message[6], message[7] = byte(records>>8), byte(records)
	if m, ok := p.Read(t, true, message); ok {
		t.Errorf("%d records of long names were read: %d addresses", records, len(m.Addresses))
	}
}

// TestDNSVectors: what decides and what no random message is likely to show.
func TestDNSVectors(t *testing.T) {
	p := Start(t)
	for _, v := range DNSVectors() {
		if m, ok := p.Read(t, v.Answer, []byte(v.Message)); ok != v.OK || len(m.Addresses) != v.Addresses {
			t.Errorf("%s: read %v with %d addresses, want %v with %d", v.Name, ok, len(m.Addresses), v.OK, v.Addresses)
		}
	}
}

// FuzzDNS looks for a message that the parser reads otherwise than dnsmessage.
func FuzzDNS(f *testing.F) {
	s := NewSender(3)
	for range 20 {
		f.Add(true, s.Answer())
		f.Add(false, s.Query())
	}
	f.Add(true, Many(3))
	p := Start(f)
	f.Fuzz(func(t *testing.T, answer bool, message []byte) {
		if len(message) > 1<<16 {
			return
		}
		compare(t, p, answer, message)
	})
}
