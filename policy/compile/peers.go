package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// peerIndex numbers the peer selectors of all policies and turns them into classes of addresses.
type peerIndex struct {
	world      *world
	ids        map[string]uint32 // peer selector by what it says
	sums       []uint64          // by selector: a hash of that
	terms      []term
	prefixes   int                 // how many the last classes were made of
	shared     map[string]int      // term of an entity, an endpoint or a service selector, by what it says
	bySelector [][]uint32          // its terms
	makers     map[int]func() term // how shared terms are made of the world
}

// term is a set of addresses: those of cidrs that are not in excepts, and the single ones. A selector
// matches what any of its terms matches.
type term struct {
	cidrs     []netip.Prefix // 128-bit
	excepts   []netip.Prefix // 128-bit, each inside one of cidrs
	single    []netip.Addr
	set       map[netip.Addr]bool // of single; made when it is asked for
	external  bool                // less what is inside the cluster
	selectors []uint32
}

// The two prefixes that every address is in one of. IPv6 prefixes that cover mapped do not speak
// of IPv4: ::/0 is every IPv6 address.
func roots() (all, mapped netip.Prefix) {
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0), wide(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
}

// wide returns a prefix in 128-bit form.
func wide(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

// single returns the prefix of one address in 128-bit form.
func single(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(a.As16()), 128)
}

func newPeerIndex(w *world) *peerIndex {
	return &peerIndex{world: w, ids: map[string]uint32{}, shared: map[string]int{}, makers: map[int]func() term{}}
}

// selector numbers what an entry says about peers. Equal peers have one number.
func (x *peerIndex) selector(p *policy.Peers) (uint32, error) {
	key, err := peersKey(p)
	if err != nil {
		return 0, err
	}
	id, fresh := x.number(key)
	if !fresh {
		return id, nil
	}
	plain := term{external: p.External}
	for _, c := range p.CIDRs {
		plain.cidrs = append(plain.cidrs, wide(c))
	}
	for _, s := range p.CIDRSets {
		if len(s.Except) == 0 {
			plain.cidrs = append(plain.cidrs, wide(s.CIDR))
			continue
		}
		t := term{cidrs: []netip.Prefix{wide(s.CIDR)}, external: p.External}
		for _, e := range s.Except {
			t.excepts = append(t.excepts, wide(e))
		}
		x.own(id, t)
	}
	if len(plain.cidrs) > 0 {
		x.own(id, plain)
	}
	for _, e := range p.Entities {
		x.share(id, "entity "+string(e), func() term { return x.entity(e) })
	}
	for i := range p.Endpoints {
		s := &p.Endpoints[i]
		x.share(id, "endpoints "+s.Namespace+" "+written(s), func() term { return term{single: x.world.selected(s)} })
	}
	for i := range p.Services {
		s := &p.Services[i]
		x.share(id, "services "+written(s), func() term { return term{single: x.world.served(s)} })
	}
	return id, nil
}

// list numbers a list of single addresses as a selector.
func (x *peerIndex) list(list []netip.Addr) uint32 {
	key := []byte("list")
	for _, a := range list {
		key = append(append(key, byte(a.BitLen())), a.AsSlice()...)
	}
	id, fresh := x.number(string(key))
	if fresh {
		x.own(id, term{single: list})
	}
	return id
}

// number gives a selector its number; fresh says that it is new.
func (x *peerIndex) number(key string) (id uint32, fresh bool) {
	if id, ok := x.ids[key]; ok {
		return id, false
	}
	id = uint32(len(x.bySelector))
	x.ids[key] = id
	x.bySelector = append(x.bySelector, nil)
	sum := sha256.Sum256([]byte(key))
	x.sums = append(x.sums, binary.LittleEndian.Uint64(sum[:]))
	return id, true
}

// own gives a selector a term of its own.
func (x *peerIndex) own(id uint32, t term) {
	t.selectors = []uint32{id}
	x.bySelector[id] = append(x.bySelector[id], uint32(len(x.terms)))
	x.terms = append(x.terms, t)
}

// share adds a selector to the term that all selectors which say the same have together.
func (x *peerIndex) share(id uint32, key string, make func() term) {
	at, ok := x.shared[key]
	if !ok {
		at = len(x.terms)
		x.shared[key] = at
		x.makers[at] = make
		x.terms = append(x.terms, make())
	}
	t := &x.terms[at]
	if !slices.Contains(t.selectors, id) {
		t.selectors = append(t.selectors, id)
		x.bySelector[id] = append(x.bySelector[id], uint32(at))
	}
}

// refresh makes the shared terms of another world. Selectors keep their numbers.
func (x *peerIndex) refresh(w *world) {
	x.world = w
	for at, make := range x.makers {
		selectors := x.terms[at].selectors
		x.terms[at] = make()
		x.terms[at].selectors = selectors
	}
}

// entity makes the term of an entity. The entity all is no class of addresses: Peers.Any is true for it.
func (x *peerIndex) entity(e policy.Entity) term {
	all, mapped := roots()
	v4 := []netip.Prefix{wide(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)), single(netip.IPv4Unspecified())}
	v6 := []netip.Prefix{single(netip.IPv6Unspecified()), single(netip.IPv6Loopback())}
	w := x.world
	switch e {
	case policy.EntityWorld:
		return term{cidrs: []netip.Prefix{all, mapped}, excepts: slices.Concat(v4, v6), external: true}
	case policy.EntityWorldIPv4:
		return term{cidrs: []netip.Prefix{mapped}, excepts: v4, external: true}
	case policy.EntityWorldIPv6:
		return term{cidrs: []netip.Prefix{all}, excepts: v6, external: true}
	case policy.EntityHost:
		return term{single: w.host}
	case policy.EntityRemoteNode:
		return term{single: w.remote}
	case policy.EntityKubeAPIServer:
		return term{single: w.apiServers}
	case policy.EntityHealth:
		return term{single: w.health}
	case policy.EntityMetadata:
		return term{single: w.metadata}
	case policy.EntityCluster:
		// Loopback is the pod's own, whatever prefixes the pods have.
		own := slices.Concat(v4, v6)
		prefixes := slices.DeleteFunc(slices.Clone(w.prefixes), func(p netip.Prefix) bool { return len(within([]netip.Prefix{p}, own)) > 0 })
		return term{single: w.cluster, cidrs: prefixes, excepts: within(own, prefixes)}
	case policy.EntityAll, policy.EntityNone:
	}
	return term{}
}

// within returns the prefixes that are in one of some others.
func within(list, of []netip.Prefix) (out []netip.Prefix) {
	for _, p := range list {
		if slices.ContainsFunc(of, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) }) {
			out = append(out, p)
		}
	}
	return out
}

// contains says whether a selector matches an address, without the classes.
func (x *peerIndex) contains(id uint32, a netip.Addr) bool {
	return slices.ContainsFunc(x.bySelector[id], func(i uint32) bool {
		t := &x.terms[i]
		if t.set == nil {
			t.set = make(map[netip.Addr]bool, len(t.single))
			for _, b := range t.single {
				t.set[b] = true
			}
		}
		in := func(p netip.Prefix) bool { return inPrefix(p, a) }
		return t.set[a] || slices.ContainsFunc(t.cidrs, in) && !slices.ContainsFunc(t.excepts, in) && (!t.external || !x.world.contains(a))
	})
}

// size returns how many prefixes and addresses a selector has.
func (x *peerIndex) size(id uint32) (n int) {
	for _, i := range x.bySelector[id] {
		t := &x.terms[i]
		n += len(t.cidrs) + len(t.excepts) + len(t.single)
	}
	return n
}

// written writes a selector down. Maps are written by their keys in order, so that equal ones are equal.
func written(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, lists and maps of strings always can be
	}
	return string(text)
}

// peersKey writes peers down, so that equal ones can be found, and refuses what has no meaning.
func peersKey(p *policy.Peers) (string, error) {
	var key []byte
	prefix := func(kind byte, c netip.Prefix) error {
		if !c.IsValid() || c != c.Masked() || c.Addr().Zone() != "" || c.Addr().Is4In6() {
			return fmt.Errorf("the prefix %s is not valid", c)
		}
		key = append(append(key, kind, byte(c.Addr().BitLen()), byte(c.Bits())), c.Addr().AsSlice()...)
		return nil
	}
	if p.External {
		key = append(key, 'x')
	}
	for _, c := range p.CIDRs {
		if err := prefix('c', c); err != nil {
			return "", err
		}
	}
	for _, s := range p.CIDRSets {
		if err := prefix('s', s.CIDR); err != nil {
			return "", err
		}
		for _, e := range s.Except {
			if err := prefix('e', e); err != nil {
				return "", err
			}
			if e.Bits() <= s.CIDR.Bits() || !s.CIDR.Contains(e.Addr()) {
				return "", fmt.Errorf("the exception %s is not a part of %s", e, s.CIDR)
			}
		}
	}
	known := []policy.Entity{
		policy.EntityWorld, policy.EntityWorldIPv4, policy.EntityWorldIPv6, policy.EntityHost, policy.EntityRemoteNode,
		policy.EntityCluster, policy.EntityKubeAPIServer, policy.EntityHealth, policy.EntityMetadata, policy.EntityNone,
	}
	for _, e := range p.Entities {
		if !slices.Contains(known, e) {
			return "", fmt.Errorf("there is no entity %q", e)
		}
		key = append(append(key, 'n'), e...)
	}
	for i := range p.Endpoints {
		key = fmt.Appendf(key, "p%q%q", p.Endpoints[i].Namespace, written(p.Endpoints[i]))
	}
	for i := range p.Services {
		key = fmt.Appendf(key, "v%q", written(p.Services[i]))
	}
	return string(key), nil
}
