package parse

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Alias is one alias of an answer.
type Alias struct {
	owner, target string
	ttl           uint32
}

// records is what the oracle finds in an answer section.
type records struct {
	aliases   []Alias
	owners    []string // of addresses
	addresses []Address
}

// Reference reads a message with dnsmessage. ok is false where dnsmessage refuses it.
func Reference(answer bool, message []byte) (m Message, aliases []Alias, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.OpCode != 0 || h.Response != answer || len(message) < 12 {
		return m, nil, false
	}
	counts := func(i int) uint16 { return binary.BigEndian.Uint16(message[4+2*i:]) }
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 || !answer && (counts(1) != 0 || counts(2) != 0) {
		return m, nil, false
	}
	q := questions[0]
	m = Message{ID: h.ID, Flags: binary.BigEndian.Uint16(message[2:]), Type: uint16(q.Type), Class: uint16(q.Class), Name: plain(q.Name)}
	m.Lower = strings.TrimSuffix(q.Name.String(), ".") == m.Name
	r, ok := section(&p)
	if !ok {
		return m, nil, false
	}
	if !skim(p.AuthorityHeader, p.SkipAuthority) || !skim(p.AdditionalHeader, p.SkipAdditional) {
		return m, nil, false
	}
	m.Addresses = r.reached(m.Name)
	return m, r.aliases, true
}

// skim reads the headers of a section, names included, which skipping it whole would not look at.
func skim(header func() (dnsmessage.ResourceHeader, error), skip func() error) bool {
	for {
		if _, err := header(); err != nil {
			return err == dnsmessage.ErrSectionDone //nolint:errorlint // as its documentation compares it
		}
		if skip() != nil {
			return false
		}
	}
}

// section reads the answers.
func section(p *dnsmessage.Parser) (r records, ok bool) {
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone { //nolint:errorlint // as its documentation compares it
			return r, true
		}
		if err != nil {
			return r, false
		}
		var addr netip.Addr
		switch {
		case h.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case h.Type == dnsmessage.TypeA && h.Length == 4:
			var a dnsmessage.AResource
			a, err = p.AResource()
			addr = netip.AddrFrom4(a.A)
		case h.Type == dnsmessage.TypeAAAA && h.Length == 16:
			var a dnsmessage.AAAAResource
			a, err = p.AAAAResource()
			addr = netip.AddrFrom16(a.AAAA).Unmap()
		case h.Type == dnsmessage.TypeA, h.Type == dnsmessage.TypeAAAA:
			return r, false // dnsmessage reads over the end of a short one
		case h.Type == dnsmessage.TypeCNAME:
			var c dnsmessage.CNAMEResource
			c, err = p.CNAMEResource()
			r.aliases = append(r.aliases, Alias{plain(h.Name), plain(c.CNAME), clamp(h.TTL)})
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return r, false
		}
		if addr.IsValid() {
			r.owners = append(r.owners, plain(h.Name))
			r.addresses = append(r.addresses, Address{addr, clamp(h.TTL)})
		}
	}
}

// reached returns the addresses of a name and of what it is an alias of.
func (r *records) reached(name string) (out []Address) {
	ttl := map[string]uint32{name: 1 << 31}
	for range r.aliases {
		for _, a := range r.aliases {
			if from, ok := ttl[a.owner]; ok {
				if _, twice := ttl[a.target]; !twice {
					ttl[a.target] = min(from, a.ttl)
				}
			}
		}
	}
	for i, owner := range r.owners {
		if limit, ok := ttl[owner]; ok {
			out = append(out, Address{r.addresses[i].Addr, min(limit, r.addresses[i].TTL)})
		}
	}
	return out
}

func clamp(ttl uint32) uint32 {
	if ttl >= 1<<31 {
		return 0
	}
	return min(ttl, 86400)
}

// plain is a name in the lower case of ASCII without its last dot.
func plain(n dnsmessage.Name) string {
	b := []byte(strings.TrimSuffix(n.String(), "."))
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Strict says why the parser refuses a message that the oracle takes: it reads less than everybody. "": it has no
// reason to. The message is one that the oracle takes, so every offset is inside.
func Strict(message []byte) string {
	if len(message) < 12 {
		return "short"
	}
	at, why := nameEnd(message, 12)
	if why != "" {
		return why
	}
	at += 4
	aliases := 0
	answers := int(binary.BigEndian.Uint16(message[6:]))
	total := answers + int(binary.BigEndian.Uint16(message[8:])) + int(binary.BigEndian.Uint16(message[10:]))
	for i := range total {
		if at, why = nameEnd(message, at); why != "" {
			return why
		}
		kind, class, size := binary.BigEndian.Uint16(message[at:]), binary.BigEndian.Uint16(message[at+2:]), int(binary.BigEndian.Uint16(message[at+8:]))
		at += 10
		if i < answers && kind == 5 && class == 1 {
			end, why := nameEnd(message, at)
			if why != "" {
				return why
			}
			if end != at+size {
				return "a CNAME shorter than its data"
			}
			aliases++
		}
		at += size
	}
	switch {
	case at != len(message):
		return "bytes behind the last record"
	case aliases > 16:
		return "too many aliases"
	}
	return ""
}

// nameEnd returns where a name ends, or what is odd about it.
func nameEnd(message []byte, at int) (end int, why string) {
	floor := at
	for {
		c := int(message[at])
		switch {
		case c == 0:
			if end == 0 {
				end = at + 1
			}
			return end, ""
		case c >= 0xc0:
			target := c&0x3f<<8 | int(message[at+1])
			if target >= floor {
				return 0, "a pointer forward"
			}
			if target < 12 {
				return 0, "a pointer into the header"
			}
			if end == 0 {
				end = at + 2
			}
			at, floor = target, target
		default:
			if strings.IndexByte(string(message[at+1:at+1+c]), 0) >= 0 {
				return 0, "a zero in a label"
			}
			at += 1 + c
		}
	}
}

// Twice says whether one of two aliases would have to be chosen: which gives the time to live is nobody's rule.
func Twice(aliases []Alias) bool {
	seen := map[string]bool{}
	for _, a := range aliases {
		if seen[">"+a.owner] || seen["<"+a.target] {
			return true
		}
		seen[">"+a.owner], seen["<"+a.target] = true, true
	}
	return false
}
