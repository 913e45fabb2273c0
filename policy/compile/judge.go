package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Decision is what the tables say about a call, in the numbers of probes/event.
type Decision struct {
	Verdict  uint8  // Allow 1, Audit 2, Deny 3, Drop 4, Reset 5, Kill 6
	Would    uint8  // for Audit: what Enforce would have done
	Severity uint8  // of a denial, also of one that is only audited
	Reason   uint8  // Rule 1, Default 2, Ungoverned 3, Loopback 4
	Ref      uint64 // of the deciding rule; 0: none
}

// Judge decides about a call by the tables alone, step by step as the kernel does. A workload that
// the tables do not know is governed by nothing here; what an unknown one gets in the kernel is the
// agent's configuration.
func (t *Tables) Judge(p policy.Process, c policy.Call) Decision {
	return t.ask(&p, c, func(uint32, *Ruleset) Bitset { return Bitset{} })
}

// JudgeQuery decides about a DNS query: the call that carries it, and the name.
func (t *Tables) JudgeQuery(p policy.Process, q policy.Query) Decision {
	return t.ask(&p, q.Call, func(_ uint32, r *Ruleset) Bitset { return r.DNS.AndNot(t.accepts(r.Queries, q.Name)) })
}

// JudgeHello decides about the beginning of a TLS connection.
func (t *Tables) JudgeHello(p policy.Process, h policy.Hello) Decision {
	return t.ask(&p, h.Call, func(_ uint32, r *Ruleset) Bitset { return t.unserved(r, h.ServerName) })
}

// unserved returns the rules with serverNames that do not match the name a TLS client asks for; "" for none.
func (t *Tables) unserved(r *Ruleset, server string) Bitset {
	if server == "" {
		return r.TLS
	}
	return r.TLS.AndNot(t.accepts(r.ServerNames, server))
}

// JudgeRequest decides about an HTTP request.
func (t *Tables) JudgeRequest(p policy.Process, q policy.Request) Decision {
	return t.ask(&p, q.Call, func(_ uint32, r *Ruleset) Bitset {
		selects := r.AnyMethod.Or(t.accepts(r.Methods, q.Method)).And(r.AnyPath.Or(t.accepts(r.Paths, q.Path))).And(r.AnyHost.Or(t.accepts(r.Hosts, q.Host)))
		var met uint64
		for _, h := range q.Headers {
			met |= t.accepts(r.Lines, strings.ToLower(h.Name)+":"+h.Value)[0]
		}
		for d, rules := range r.Demands {
			if met>>d&1 == 0 {
				selects = selects.AndNot(rules)
			}
		}
		return r.HTTP.AndNot(selects).Or(t.unserved(r, q.Server))
	})
}

// accepts returns the rules whose patterns match a string.
func (t *Tables) accepts(ref DFARef, s string) Bitset { return t.Accepts[Walk(t.Pages, ref, s)] }

// ask judges a call. silent gives the rules of a ruleset that do not allow what is said inside.
func (t *Tables) ask(p *policy.Process, c policy.Call, silent func(uint32, *Ruleset) Bitset) Decision {
	c = c.Canonical()
	id := t.Containers[p.Workload.Key]
	r := t.Rulesets[id]
	who := t.who(r, p)
	m := matched{call: &c, rules: t.peer(r, &c).And(r.port(&c)), silent: silent(id, r)}
	d := r.judge(who.AndNot(r.Audit), &m)
	if d.Verdict != policy.VerdictAllow.Number() || who.And(r.Audit) == (Bitset{}) {
		return d
	}
	audit := r.judge(who, &m)
	if audit.Verdict == policy.VerdictAllow.Number() {
		return d
	}
	audit.Verdict, audit.Would = policy.VerdictAudit.Number(), audit.Verdict
	return audit
}

// matched is a call and the rules that match its peer and port.
type matched struct {
	call   *policy.Call
	rules  Bitset
	silent Bitset // rules that do not allow what is said inside
}

// who returns the rules that select a process.
func (t *Tables) who(r *Ruleset, p *policy.Process) Bitset {
	who := r.Origins[p.Origin.Number()].
		And(r.ofIDs(idTable{r.Users, r.AnyUser}, p.User, nil)).And(r.ofIDs(idTable{r.Groups, r.AnyGroup}, p.Group, p.Groups))
	if p.Truncated {
		// No rule can be told by half a path: see Ruleset.Truncated.
		return who.And(r.AnyBinary.And(r.AnyScript).Or(r.Truncated))
	}
	script := r.AnyScript
	switch {
	case p.Scriptless:
		script = script.Or(t.accepts(r.Interpreters, p.Exe).And(r.Truncated))
	case p.Script != "":
		script = script.Or(t.accepts(r.Interpreters, p.Exe).And(t.accepts(r.Scripts, p.Script)))
	}
	return who.And(script).And(r.AnyBinary.Or(t.accepts(r.Exe, p.Exe)).Or(t.accepts(r.Exe, p.Script)))
}

// idTable is the entries of one kind of ids.
type idTable struct {
	entries []IDEntry
	anyone  Bitset // Ruleset.AnyUser or AnyGroup
}

// rules returns the rules that name an id, with those that name none.
func (t idTable) rules(id uint32) Bitset {
	i, ok := slices.BinarySearchFunc(t.entries, id, func(e IDEntry, id uint32) int { return cmp.Compare(e.ID, id) })
	if !ok {
		return t.anyone
	}
	return t.entries[i].Bits
}

// ofIDs returns the rules that select a process by its ids of one kind. more are its supplementary groups.
func (r *Ruleset) ofIDs(t idTable, ids policy.IDs, more []uint32) Bitset {
	all, some, known := t.rules(ids[0]), Bitset{}, true
	for _, id := range ids {
		all = all.And(t.rules(id)) // no rule names policy.NoID
	}
	for _, id := range append(ids[:], more...) {
		some, known = some.Or(t.rules(id)), known && id != policy.NoID
	}
	if !known {
		some = r.AnyOf
	}
	return all.AndNot(r.AnyOf).Or(some.And(r.AnyOf))
}

func (r *Ruleset) judge(who Bitset, m *matched) Decision {
	hit, c := who.And(m.rules), m.call
	if bit, ok := hit.And(r.Deny[c.Direction]).First(); ok {
		return r.denied(bit, policy.ReasonRule)
	}
	allow := Decision{Verdict: policy.VerdictAllow.Number()}
	if c.Listen {
		allow.Reason = policy.ReasonUngoverned.Number()
		return allow
	}
	hit = hit.And(r.Allow[c.Direction])
	if bit, ok := hit.AndNot(m.silent).First(); ok {
		allow.Reason, allow.Ref = policy.ReasonRule.Number(), r.Rules[bit].Ref
		return allow
	}
	if bit, ok := hit.First(); ok {
		return r.denied(bit, policy.ReasonRule)
	}
	first, governed := who.And(r.Allow[c.Direction]).First()
	switch {
	case !governed:
		allow.Reason = policy.ReasonUngoverned.Number()
	case policy.IsLoopback(c.Peer):
		allow.Reason = policy.ReasonLoopback.Number()
	default:
		return r.denied(first, policy.ReasonDefault)
	}
	return allow
}

func (r *Ruleset) denied(bit int, reason policy.Reason) Decision {
	rule := &r.Rules[bit]
	return Decision{Verdict: rule.Verdict, Severity: rule.Severity, Reason: reason.Number(), Ref: rule.Ref}
}

// peer returns the rules that match the other end.
func (t *Tables) peer(r *Ruleset, c *policy.Call) Bitset {
	if !c.Peer.IsValid() {
		return r.AnyPeer
	}
	bits := r.AnyPeer
	i, ok := slices.BinarySearchFunc(r.Peers, t.Identity(c.Peer), func(e PeerEntry, id Identity) int { return cmp.Compare(e.Identity, id) })
	if ok {
		bits = r.Peers[i].Bits
	}
	for _, name := range c.Names {
		bits = bits.Or(t.Accepts[Walk(t.Pages, r.Names, name)])
	}
	return bits
}

// Identity returns the class of an address: that of the longest prefix it is in.
func (t *Tables) Identity(a netip.Addr) Identity {
	a = netip.AddrFrom16(a.As16())
	for length := 128; length >= 0; length-- {
		p := netip.PrefixFrom(a, length).Masked()
		i, ok := slices.BinarySearchFunc(t.Addresses, p, func(e AddressEntry, p netip.Prefix) int {
			return cmp.Or(e.Prefix.Addr().Compare(p.Addr()), cmp.Compare(e.Prefix.Bits(), p.Bits()))
		})
		if ok {
			return t.Addresses[i].Identity
		}
	}
	return 0
}

// port returns the rules that match the protocol and port.
func (r *Ruleset) port(c *policy.Call) Bitset {
	if !c.Peer.IsValid() && !c.Listen {
		return r.AnyPort
	}
	port := c.Port
	if c.IsICMP() && !c.Listen {
		port = icmpUnknown
		if c.ICMPType != nil {
			port = icmpPort(*c.ICMPType)
		}
	}
	for length := 16; length >= 0; length-- {
		want := PortEntry{Protocol: c.Protocol, Port: port & portMask(uint8(length)), Length: uint8(length)}
		if i, ok := slices.BinarySearchFunc(r.Ports, want, comparePortEntries); ok {
			return r.Ports[i].Bits
		}
	}
	return r.AnyPort
}
