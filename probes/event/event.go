// Package event is the vocabulary of what the kernel tells: plain Go types for every record the
// ring buffers carry, after decoding and before names are joined to them.
//
// It is pure: it imports nothing of this module and nothing of the kernel, so that alerting, the
// API and tests can speak of events without a kernel. Text fields come from workloads and are
// hostile input: they may hold any byte, and every sink escapes them.
package event

import (
	"net/netip"
	"time"
)

// Kind says what an Event reports.
type Kind uint8

// The kinds of events, as in bpf/include/abi/event.h.
const (
	KindExec         Kind = iota + 1 // a labelled process executed a program
	KindExit                         // the last thread of a labelled process ended
	KindSessionStart                 // a process joined a container that was already running (kubectl exec)
	KindSessionEnd                   // the first process of a session ended
	KindConnect                      // a socket call to a peer was judged: connect, or a send that names its peer
	KindListen                       // a bind, listen or accept was judged
	KindSocket                       // the creation of a socket was judged
	KindFlow                         // the first packet of a flow was judged at the gate
	KindForeign                      // a packet at the gate belonged to no judged flow, and was dropped
	KindCgroup                       // a container's cgroup appeared or went
	KindLost                         // records were lost; Lost counts them
	KindBorrow                       // a process reached for another label: into its process, or for its socket
	KindLate                         // a container was to start before its policies were in force; the agent's own
	KindDNS                          // a DNS query was refused, or an answer taken or not
	KindStale                        // the cluster's API cannot be heard, and what is known of it grows old, or is heard again; the agent's own
	KindRequest                      // an HTTP request was judged, or what is none where only requests may be
	KindTamper                       // somebody took away or changed what enforces (Call is CallNone), or a process reached for the agent
	KindHello                        // the name that a TLS client asks for was judged
	KindKTLS                         // a process asked the kernel to encrypt or to decrypt on a socket (kTLS), and got it or was refused it
	KindResponse                     // an HTTP request that passed and was told is answered
	KindTunnel                       // a container asks for very many names below one domain, which look like data; the agent's own
)

// Origin says how a process came into its container.
type Origin uint8

// The origins. The order is the index into compile.Ruleset.Origins and is part of the kernel ABI.
const (
	OriginUnknown Origin = iota // was there before the agent and could not be told
	OriginMain                  // the entrypoint and all it starts
	OriginExec                  // joined later: kubectl exec, ctr task exec
	OriginProbe                 // a kubelet exec probe or lifecycle hook
	OriginHost                  // a process of the node inside the pod's network namespace
)

// Verdict is what was decided, or for Audit what would have been.
type Verdict uint8

// The verdicts, mildest first.
const (
	VerdictNone  Verdict = iota // nothing was judged (exec, exit, …)
	VerdictAllow                // passes
	VerdictAudit                // passes, and would be denied if the policy enforced
	VerdictDeny                 // the call fails with EPERM
	VerdictDrop                 // dropped silently
	VerdictReset                // the caller sees a refused or reset connection
	VerdictKill                 // as Deny, and the process is killed
)

// Reason says which part of the judgement decided.
type Reason uint8

// The reasons.
const (
	ReasonNone       Reason = iota
	ReasonRule              // a rule matched
	ReasonDefault           // rules select the process in this direction and none allows the call
	ReasonUngoverned        // no rule selects the process
	ReasonLoopback          // default-deny leaves the pod's own loopback alone
	ReasonUnknown           // the workload is known only provisionally: unknownWorkload decides
	ReasonForeign           // no judged flow for the packet
	ReasonMalformed         // the packet, address or request could not be parsed, or could be read in two ways
	ReasonMPTCP             // MPTCP is refused to governed processes, which fall back to TCP
	ReasonBorrow            // nobody acts under another's label
	ReasonDNSStream         // DNS that cannot be read where rules.dns governs it: its protocol, what came before it, or its length
	ReasonUnasked           // a DNS answer to no query
	ReasonNamesFull         // DNS has told a container more addresses than are remembered for it
	ReasonAmbiguous         // no HTTP request, or one that two programs could read in two ways: see Flaw
	ReasonOpaque            // where rules.http governs, something that nobody reads: see Flaw
	ReasonProtected         // the agent, or what it has put into the kernel, is not for governed containers
	ReasonFronted           // another site is asked for (Host) than the connection was made for: its server name, or what DNS has told
)

// Flaw says why what a client sends cannot be judged as a request.
type Flaw uint8

// The flaws, as in bpf/include/abi/flaw.h.
const (
	FlawNone    Flaw = iota
	FlawSyntax       // no HTTP/1
	FlawTLS          // a TLS record
	FlawHTTP2        // the preface of HTTP/2
	FlawLong         // a head of more than 8 KiB
	FlawLineEnd      // a line that does not end in CR LF
	FlawFolded       // a header that goes on in the next line
	FlawFraming      // where the body ends
	FlawHost         // none, two, or another than the target names
	FlawPath         // dot segments, empty ones, an encoded slash or NUL
	FlawTunnel       // CONNECT, Upgrade
	FlawHeader       // a header that a rule demands is there twice
	FlawMidway       // the connection is older than the policy, or the policy changed inside a head
	FlawUrgent       // urgent data
	FlawShared       // a head in memory that the sender can still change
	FlawUnread       // a part of it could not be read, or nobody read it
	FlawHPACK        // HTTP/2: headers that do not decode
	FlawHello        // a ClientHello of TLS that cannot be read, or asks for a name in two ways
)

// ALPN are the protocols that a TLS client offers, a bit each.
type ALPN uint8

// What counts of the protocols; which others there are is not told.
const (
	ALPNHTTP1 ALPN = 1 << iota // http/1.0 or http/1.1
	ALPNHTTP2                  // h2
	ALPNOther                  // another
)

// Call is the socket call (or packet) that was judged.
type Call uint8

// The calls.
const (
	CallNone Call = iota
	CallConnect
	CallSendmsg
	CallBind
	CallListen
	CallAccept
	CallSocket
	CallPacketOut // at the gate, leaving the pod
	CallPacketIn  // at the gate, entering the pod
	CallTrace     // ptrace, process_vm_writev, /proc/PID/mem, pidfd_getfd
	CallReceive   // a socket that another process hands over
	CallSignal    // a signal to the agent
	CallLimit     // a limit of the agent's resources
	CallBPF       // bpf: something of another's by its number or pin, or a program that reaches other processes
	CallOption    // setsockopt: the TLS of the kernel
	CallLocal     // a connection to, or a datagram for, a unix socket that another label's holder serves
)

// KTLSPart is what a process asks of the TLS of the kernel.
type KTLSPart uint8

// The parts, as in bpf/include/abi/ktls.h.
const (
	KTLSNone    KTLSPart = iota
	KTLSULP              // TCP_ULP: the socket's upper layer protocol; no keys yet
	KTLSSend             // TLS_TX: keys for what is sent
	KTLSReceive          // TLS_RX: keys for what is received
)

// KTLS is what a process asked of the TLS of the kernel. Of the keys nothing is read.
type KTLS struct {
	Part    KTLSPart
	Version uint16 // as TLS counts: 0x0303 is 1.2, 0x0304 is 1.3; 0: not known, as of what was refused
	Cipher  uint16 // TLS_CIPHER_* of linux/tls.h; 0: not known
	Tapped  bool   // it was asked for by a library that a tap reads, which encrypts by itself where it is refused
}

// Step is the rung of the enforcement ladder that judged.
type Step uint8

// The steps, strongest first.
const (
	StepNone   Step = iota
	StepLSM         // BPF LSM
	StepModRet      // fmod_ret on security_*
	StepCgroup      // cgroup socket programs
	StepReport      // kprobe or fentry: reported, not stopped
	StepGate        // cgroup_skb or tc
	StepTap         // a function of a TLS library: what it denies, the socket call of another step does not send
)

// Severity is how loud a denial is, as the policy's onViolation.alert says.
type Severity uint8

// The severities.
const (
	SeverityInfo Severity = iota
	SeverityWarning
	SeverityCritical
)

// Subject is the process an event is about, as its label says.
type Subject struct {
	Container uint64 // cgroup id of the container (inode of its cgroup v2 directory); 0: none
	Session   uint64 // id of the exec session; 0: not in one
	Exec      uint64 // id of the program execution, unique on this boot
	PID       uint32 // thread group id in the initial PID namespace
	TID       uint32
	UID       uint32 // effective, in the initial user namespace
	Origin    Origin
	Inferred  bool   // labelled from /proc, not from its birth
	Truncated bool   // Exe or Script was longer than the label holds
	Drifted   bool   // Exe or Script is not of the container's image: written since it was made, or in memory
	Exe       string // resolved path of the executable inside the container; "memfd:NAME" when it has none
	Script    string // for an interpreter run by a #! line: the script; else empty
	Comm      string // the thread's name
}

// Header is a header of a request that the configuration names.
type Header struct {
	Name  string
	Value string // hostile as all text; of one that is there twice the first
	There bool   // the request has it
	Cut   bool   // Value is not all of it; not There: nobody knows whether the request has it
}

// Event is one record. Fields that a Kind does not use are zero. Thousands are kept: small fields stand together.
type Event struct {
	Time        time.Time // wall clock, from the kernel's boot clock
	Kind        Kind
	Removed     bool // for KindCgroup: the cgroup went; for KindStale: the API went; for KindTamper: it could not be put back
	Unit        bool // for KindCgroup: of no container, but policies may select it as a unit of the node
	Flaw        Flaw // for KindRequest and KindHello: why it cannot be read
	ALPN        ALPN // for KindHello: the protocols that the client offers; 0: none
	Encrypted   bool // for KindHello: it has an encrypted ClientHello inside, or what looks like one
	URLQueryCut bool // URLQuery is not all of it
	Subject     Subject
	Target      *Subject // for KindBorrow: whose process or socket it is; else nil
	Call        Call
	Step        Step
	Family      uint16 // AF_*
	Type        uint16 // SOCK_*
	Protocol    uint16 // IPPROTO_*
	Local       netip.AddrPort
	Remote      netip.AddrPort // IPv4-mapped addresses are unmapped
	Verdict     Verdict
	Would       Verdict // for Audit: what Enforce would have done
	Reason      Reason
	Severity    Severity
	Ifindex     uint32 // for packets: the interface on the node
	Rule        uint64 // compile.Rule.Ref of the deciding rule; 0: none
	Revision    uint64 // revision of the tables that decided
	NetNS       uint64 // network namespace cookie
	Args        []string
	ExitCode    int32
	Signal      uint32
	Packets     uint64
	Bytes       uint64
	Lost        uint64 // for KindLost
	Site        string // for KindLost: which ring buffer or map; for KindStale: what cannot be heard, and why; for KindTamper: what
	Query       string // for KindDNS: the name asked for, in lower case; for KindTunnel: the domain; hostile as all text
	QType       uint16 // for KindDNS: the type of record asked for
	Answer      bool   // for KindDNS: about an answer, not a query
	RCode       uint8  // for KindDNS, of an answer
	Told        uint32 // for KindDNS: how many addresses the answer told for the name; for KindTunnel: for how many names it was asked
	Path        string // for KindCgroup: path of the cgroup below the root of the hierarchy; for KindRequest and KindResponse: canonical, without the query
	Method      string // for KindRequest and, where it is known, KindResponse; this, Path and Host may be cut, and are hostile as all text
	Host        string // for KindRequest: of the Host header; for KindHello: the name that the client asks for, "" for none
	Socket      uint64 // for KindRequest and KindHello: cookie of the socket whose connection the agent is to end, as nobody else does, or its program may not notice; 0: none
	KTLS        KTLS   // for KindKTLS
	Status      uint16 // for KindResponse: 200 to 599, or 101; hostile as all that a server says

	URLQuery string   // for KindRequest, where the configuration asks for it: what follows the path and its question mark; hostile as all text
	Headers  []Header // for KindRequest: of those that the configuration names

	Asked   uint64        // for KindRequest and KindResponse: when the request was told, CLOCK_BOOTTIME in ns; with the connection it joins them
	Latency time.Duration // for KindResponse: from the end of the request's head to the answer's status line, or over HTTP/2 the end of its head
}
