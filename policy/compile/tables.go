// Package compile turns policies into the flat tables that the kernel walks: bitsets of rules by
// origin, executable path, peer address and port, which are ANDed to judge a call.
//
// It is pure and deterministic: the same policies, workloads and node give the same tables, byte
// for byte. It imports policy only, no kernel and no runtime; probes loads what it makes.
// (*Tables).Judge is the algorithm of the kernel in Go; match, which judges by the policies
// themselves, must always agree with it.
package compile

import (
	"net/netip"

	"github.com/sallyport/sallyport/policy"
)

// Words is the number of 64-bit words in a Bitset.
const Words = 8

// MaxRules is how many compiled rules one container can have. More is a compile error.
const MaxRules = Words * 64

// MaxPrefixes is how many prefixes of addresses the policies of a node can make together. More is a
// compile error.
const MaxPrefixes = 1 << 19

// Bitset is a set of compiled rules: bit i (word i/64, bit i%64) is Ruleset.Rules[i].
type Bitset [Words]uint64

// Direction is seen from the workload.
type Direction = policy.Direction

// The directions, an index into Ruleset.Allow and Ruleset.Deny.
const (
	Egress  = policy.Egress
	Ingress = policy.Ingress
)

// OriginCount is the number of origins. The order (Unknown, Main, Exec, Probe, Host) is that of
// probes/event and of the kernel ABI.
const OriginCount = 5

// Identity is a class of addresses that every selector on the node treats alike. 0 is the class
// that no selector names. The number is made of what the selectors of the class say, so that it stays
// what it is while others come and go.
type Identity uint32

// Tables is one revision of everything that judges.
type Tables struct {
	Rulesets   []*Ruleset        // index is the ruleset id; 0 is the empty ruleset, which selects nothing
	Containers map[uint64]uint32 // Workload.Key → ruleset id
	Addresses  []AddressEntry    // longest prefix wins; has ::/0 and ::ffff:0:0/96 always; sorted by address, length
	Pages      []Page            // DFAs, packed
	Accepts    []Bitset          // accept sets of the DFAs; 0 is the empty set
}

// AddressEntry maps a prefix to its identity. IPv4 prefixes are in IPv4-mapped IPv6 form
// (::ffff:a.b.c.d/96+n), so that both spellings of an address are one thing.
type AddressEntry struct {
	Prefix   netip.Prefix // always 128-bit
	Identity Identity
}

// PeerEntry gives the rules of a ruleset that match one identity. It holds all of them,
// AnyPeer included; an identity without entry has Ruleset.AnyPeer, and so has a call without an
// address.
type PeerEntry struct {
	Identity Identity
	Bits     Bitset
}

// PortEntry gives the rules of a ruleset that match a port prefix of one protocol, the longest
// prefix winning. It holds the rules of all prefixes that cover it, AnyPort included; no entry
// means Ruleset.AnyPort, and so does a call without an address. A call of a protocol with an
// address but without a port (a raw socket) asks for port 0, which only rules match that name the
// protocol and no port. For an ICMP message the port is 256 + type, or 512 where the type is not known
// yet, which Deny rules match that name a type.
type PortEntry struct {
	Protocol uint8 // IPPROTO_*
	Bits     Bitset
	Port     uint16 // host byte order; the low 16-Length bits are zero
	Length   uint8  // 0 to 16: how many leading bits of Port count
}

// IDEntry gives the rules of a ruleset that select the processes of one user or group. It holds all of
// them, AnyUser or AnyGroup included; no entry means those.
type IDEntry struct {
	ID   uint32
	Bits Bitset
}

// MaxDemands is how many headers, and how many values of headers, the rules of one container can demand.
// More is a compile error.
const MaxDemands = 64

// Ruleset is what governs one or more containers that the same rules select.
type Ruleset struct {
	Allow                       [2]Bitset           // by Direction; egress: [] is a rule here that matches no peer
	Deny                        [2]Bitset           // by Direction
	Audit                       Bitset              // rules of policies in mode Audit
	Origins                     [OriginCount]Bitset // rules that select a process of this origin
	AnyBinary                   Bitset              // rules whose process selector names no binaries
	AnyScript                   Bitset              // rules whose process selector names no scripts
	AnyUser                     Bitset              // rules whose process selector names no users
	AnyGroup                    Bitset              // rules whose process selector names no groups
	AnyOf                       Bitset              // rules to which one of a process's ids is enough: those that deny, and those that only govern
	Truncated                   Bitset              // what a path too long for the label matches: Deny rules with binaries or scripts (fails closed for them)
	AnyPeer                     Bitset              // rules that match every peer, also where there is no address
	AnyPort                     Bitset              // rules that match every protocol and port
	DNS                         Bitset              // rules with rules.dns: what they allow carries queries, which Queries is asked about
	ICMP                        bool                // has rules that name types of ICMP messages
	Exe                         DFARef              // path → accept set
	Interpreters, Scripts       DFARef              // path of the executable, and of its script → accept sets, which are ANDed
	Names                       DFARef              // name that DNS has told for the peer → rules whose toFQDNs match it
	Queries                     DFARef              // name that a query asks for → rules whose rules.dns match it
	TLS, HTTP                   Bitset              // rules with serverNames, with rules.http
	AnyMethod, AnyPath, AnyHost Bitset              // rules that say nothing about a request's method, path, host
	Methods, Paths, Hosts       DFARef              // → accept sets, which are ANDed, and with those of the headers
	Lines                       DFARef              // header of a request → demands, not rules: see below
	Demands                     []Bitset            // for each demand of a header the rules that have it
	ServerNames                 DFARef              // name that a TLS client asks for → rules whose serverNames match it
	Rules                       []Rule              // by bit, at most MaxRules, first rule first
	Peers                       []PeerEntry         // sorted by identity
	Ports                       []PortEntry         // sorted by protocol, port, length
	Users, Groups               []IDEntry           // sorted by id
	Digest                      uint32              // of the rules and of the policies that they stand in; the same after every restart
}

// How a call is judged:
//
//	who = Origins[origin] & users & groups & (AnyBinary | Accepts[Exe(exe)] | Accepts[Exe(script)])
//	      & (AnyScript | Accepts[Interpreters(exe)] & Accepts[Scripts(script)])
//	      or, if the path was cut, Origins[origin] & users & groups & (AnyBinary & AnyScript | Truncated): no DFA is asked
//	hit = who & peer & port
//
// Where nobody can tell whether a process runs a script, Truncated stands for Accepts[Scripts(script)]. users is,
// over the ids of users that a process has, the AND of their IDEntry's bits (or AnyUser) in all rules but those
// of AnyOf, and the OR in those; an id that is not known has AnyUser there, and all rules of AnyOf. groups is the
// same, to whose OR the supplementary groups belong. An Allow rule that names ids is there twice: before the one
// that matches calls stands one in AnyOf that matches none, by which it governs.
//
// peer is the PeerEntry's bits or AnyPeer, and for each name that DNS has told the workload for the
// peer Accepts[Names(name)] besides.
//
// First bit of hit & Deny[dir] → its verdict; else first bit of hit & Allow[dir] → Allow; else, if
// who & Allow[dir] is not empty, its first rule's verdict by default (loopback excepted); else
// Allow. A policy.Call.Listen asks Deny[Ingress] alone, with AnyPeer for peer.
//
// That is done with the bits of Audit taken out of who. If it allows and who has bits of Audit, it
// is done again with all of who: if that denies, the verdict is Audit, with the rule, reason and
// verdict (Event.Would) of the second time; else the outcome of the first time stands.

// A DNS query is judged as the call that carries it. Where hit & Allow[Egress] is not empty, its first
// bit that is in Accepts[Queries(name)] or not in DNS allows; if there is none, the query is denied by
// the first bit, with reason rule.

// A request and the name in a TLS client's hello are judged in the same way, with HTTP or TLS in the place
// of DNS and what matches the request or the name in the place of Accepts[Queries(name)]. The kernel does
// not ask for names: see Enforced. What matches a request is
//
//	(AnyMethod | Accepts[Methods(method)]) & (AnyPath | Accepts[Paths(path)]) & (AnyHost | Accepts[Hosts(host)])
//	less Demands[d] for each demand d that is not met
//
// A demand d is met if bit d is in word 0 of Accepts[Lines(name in lower case:value)] for one of the headers. Word 1
// has the bit of its name, by which a header that is demanded and there twice is found.

// DFARef is where a DFA begins. A zero ref is no DFA: it accepts nothing.
type DFARef struct {
	Page    uint32
	Base    uint16 // cell index in the page
	Classes uint16 // number of byte classes; a row has Classes+1 cells; 0: no DFA
}

// PageCells is the number of cells in a Page.
const PageCells = 32768

// Page holds DFAs. One at base b: cells b … b+255 give the class of each byte; rows follow from
// b+256. A row has Classes cells with the offset of the next row (relative to b+256), then one cell
// with the index in Tables.Accepts of what the state accepts. Row 0 is the start state. A dead state
// is a row like any other. A path is walked without its terminating NUL.
type Page [PageCells]uint16

// Rule is one compiled rule: a YAML rule × one of its process selectors × one of its entries in one
// direction.
type Rule struct {
	Ref       uint64 // stable across revisions and restarts: FNV-1a of Name, Direction and Index
	Name      string // namespace/policy/rule as people write it
	Policy    string // namespace/policy
	Direction Direction
	Index     int // which combination of selector and entry of the YAML rule this is
	Deny      bool
	Audit     bool
	Verdict   uint8 // what a violation gets: an event.Verdict number: Deny 3, Drop 4, Reset 5, Kill 6
	Severity  uint8 // an event.Severity number
}
