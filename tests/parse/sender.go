package parse

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Sender makes random messages as servers and clients would.
type Sender struct{ *rand.Rand }

// NewSender returns one whose messages depend on seed alone.
func NewSender(seed uint64) Sender { return Sender{rand.New(rand.NewPCG(seed, 1))} }

func (s Sender) name() dnsmessage.Name {
	names := []string{
		"api.payments.example.", "payments.example.", "a.b.c.d.e.f.g.example.", "x.", ".", "edge-7.cdn.example.net.", "xn--bcher-kva.example.",
		strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 61) + ".",
		strings.Repeat("a.", 126) + "z.", "_srv._tcp.\xff\x80.example.",
	}
	b := []byte(names[s.IntN(len(names))])
	for i, c := range b {
		if c >= 'a' && c <= 'z' && s.IntN(4) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return dnsmessage.MustNewName(string(b))
}

func (s Sender) ttl() uint32 {
	return []uint32{0, 1, 30, 300, 86400, 86401, 1 << 31, 1<<32 - 1}[s.IntN(8)]
}

// Query returns a query as clients make it.
func (s Sender) Query() []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(s.UintN(1 << 16)), RecursionDesired: true})
	b.EnableCompression()
	must(b.StartQuestions())
	must(b.Question(dnsmessage.Question{Name: s.name(), Type: dnsmessage.Type(1 + s.IntN(40)), Class: 1}))
	if s.IntN(2) == 0 {
		must(b.StartAdditionals())
		s.opt(&b)
	}
	return must1(b.Finish())
}

func (s Sender) opt(b *dnsmessage.Builder) {
	var h dnsmessage.ResourceHeader
	must(h.SetEDNS0(1232, 0, false))
	must(b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: make([]byte, s.IntN(20))}}}))
}

// Answer returns an answer as servers make it, with aliases and more.
func (s Sender) Answer() []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(s.UintN(1 << 16)), Response: true, RCode: dnsmessage.RCode(s.IntN(6))})
	if s.IntN(4) > 0 {
		b.EnableCompression()
	}
	name := s.name()
	must(b.StartQuestions())
	must(b.Question(dnsmessage.Question{Name: name, Type: 1, Class: 1}))
	must(b.StartAnswers())
	// A chain in any order, then addresses of its ends and of others.
	chain := []dnsmessage.Name{name}
	for range s.IntN(5) {
		chain = append(chain, s.name())
	}
	for _, i := range s.Perm(len(chain) - 1) {
		must(b.CNAMEResource(header(chain[i], s.ttl()), dnsmessage.CNAMEResource{CNAME: chain[i+1]}))
	}
	for range s.IntN(1 + []int{1, 4, 20}[s.IntN(3)]) {
		owner := chain[s.IntN(len(chain))]
		if s.IntN(8) == 0 {
			owner = s.name()
		}
		switch s.IntN(4) {
		case 0:
			must(b.TXTResource(header(owner, s.ttl()), dnsmessage.TXTResource{TXT: []string{"text"}}))
		case 1:
			must(b.AAAAResource(header(owner, s.ttl()), dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 13, 184, 15: byte(s.UintN(256))}}))
		default:
			must(b.AResource(header(owner, s.ttl()), dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(s.UintN(256))}}))
		}
	}
	must(b.StartAuthorities())
	if s.IntN(3) == 0 {
		must(b.NSResource(header(s.name(), s.ttl()), dnsmessage.NSResource{NS: s.name()}))
	}
	must(b.StartAdditionals())
	if s.IntN(2) == 0 {
		must(b.AResource(header(s.name(), s.ttl()), dnsmessage.AResource{A: [4]byte{203, 0, 113, 9}}))
		s.opt(&b)
	}
	return must1(b.Finish())
}

func header(name dnsmessage.Name, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}

// Mutate returns bytes near a message.
func (s Sender) Mutate(message []byte) []byte {
	b := bytes.Clone(message)
	for range 1 + s.IntN(3) {
		at := s.IntN(len(b) + 1)
		switch s.IntN(8) {
		case 0:
			b = b[:at]
		case 1:
			b = append(b, make([]byte, s.IntN(3))...)
		case 2:
			b = append(b[:at:at], append([]byte{0xc0, byte(s.UintN(64))}, b[at:]...)...)
		default:
			if at < len(b) {
				b[at] = []byte{b[at] ^ 1<<s.IntN(8), byte(s.UintN(256)), 0xc0, '.'}[s.IntN(4)]
			}
		}
		if len(b) == 0 {
			return b
		}
	}
	return b
}

// Many is an answer with n addresses.
func Many(n int) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true})
	b.EnableCompression()
	name := dnsmessage.MustNewName("many.example.")
	must(b.StartQuestions())
	must(b.Question(dnsmessage.Question{Name: name, Type: 1, Class: 1}))
	must(b.StartAnswers())
	for i := range n {
		must(b.AResource(header(name, 60), dnsmessage.AResource{A: [4]byte{198, 51, byte(i >> 8), byte(i)}}))
	}
	return must1(b.Finish())
}
