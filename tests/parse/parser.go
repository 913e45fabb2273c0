// Package parse holds the kernel programs' parsers of hostile bytes (bpf/include/parse) against other people's: the same
// C, compiled for the host with the sanitizers on. It imports tests/testutil only.
package parse

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Address is an address that an answer gives for the name in its question, and for how many seconds.
type Address struct {
	Addr netip.Addr
	TTL  uint32
}

// Message is what the parser read of a message.
type Message struct {
	ID, Flags, Type, Class uint16
	Lower                  bool   // the name is spelt in lower case
	Name                   string // of the question, in lower case, without the last dot
	Addresses              []Address
}

// Parser is the C parser of DNS messages as a process that answers one message after another.
type Parser struct{ program *program }

// Start compiles the parser and starts it. Without a C compiler t is skipped, or fails as testutil.Unsupported says.
func Start(t testing.TB) *Parser {
	t.Helper()
	return &Parser{start(t, "dns.c")}
}

// Read parses a message, an answer or else a query. ok is false when it is malformed.
func (p *Parser) Read(t testing.TB, answer bool, message []byte) (m Message, ok bool) {
	t.Helper()
	kind := "q "
	if answer {
		kind = "a "
	}
	line := p.program.ask(t, kind+hex.EncodeToString(message))
	if line == "bad" {
		return Message{}, false
	}
	var lower int
	var name string
	fields := strings.Split(line, " ")
	if _, err := fmt.Sscanf(strings.Join(fields[:5], " "), "%x %x %x %x %d:%s", &m.ID, &m.Flags, &m.Type, &m.Class, &lower, &name); err != nil && name != "" {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	text, err := hex.DecodeString(name)
	if err != nil {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	m.Lower, m.Name = lower == 1, string(text)
	for _, field := range fields[5:] {
		m.Addresses = append(m.Addresses, addressOf(t, field))
	}
	return m, true
}

func addressOf(t testing.TB, field string) Address {
	t.Helper()
	text, ttl, _ := strings.Cut(field, "/")
	raw, err := hex.DecodeString(text)
	addr, ok := netip.AddrFromSlice(raw)
	var a Address
	if _, scanErr := fmt.Sscanf(ttl, "%x", &a.TTL); err != nil || scanErr != nil || !ok {
		t.Fatalf("the parser says %q: %v %v", field, err, scanErr)
	}
	a.Addr = addr.Unmap()
	return a
}
