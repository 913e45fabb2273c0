package oracle

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// forever is a time of CLOCK_BOOTTIME that no test sees.
const forever = 1 << 62

// Tell makes names those that DNS has told a container for an address, and forgets all that it was told before.
func (o *Oracle) Tell(t testing.TB, container uint64, addr netip.Addr, names []string) {
	t.Helper()
	byAddr, byHash := o.kernel.Maps().Map("names_by_addr"), o.kernel.Maps().Map("name_by_hash")
	for _, key := range o.told {
		if err := byAddr.Delete(key); err != nil {
			t.Fatal("forgetting an address: ", err)
		}
	}
	for _, key := range o.names {
		if err := byHash.Delete(key); err != nil {
			t.Fatal("forgetting a name: ", err)
		}
	}
	o.told, o.names = nil, nil
	if len(names) == 0 || !addr.IsValid() {
		return
	}
	var told KernelTold
	for i, name := range names {
		key := KernelNameKey{Container: container, Hash: uint64(i + 1)}
		value := KernelName{Serial: uint64(i + 100), Expires: forever}
		copy(value.Text[:], name)
		if err := byHash.Put(key, &value); err != nil {
			t.Fatal("telling a name: ", err)
		}
		told.Way[i] = KernelToldWay{Hash: key.Hash, Serial: value.Serial, Expires: forever}
		o.names = append(o.names, key)
	}
	key := KernelToldKey{Container: container, Addr: addr.As16()}
	if err := byAddr.Put(key, &told); err != nil {
		t.Fatal("telling an address: ", err)
	}
	o.told = append(o.told, key)
}

// AskQuery asks about a DNS query in a call.
func (o *Oracle) AskQuery(t testing.TB, p policy.Process, q policy.Query, own bool) compile.Decision {
	t.Helper()
	o.Put(t, p, q.Call, own)
	o.put(t, func(query *KernelQuery) {
		query.Accept = o.accepts(t, "oracle_name", q.Name)
		query.Flags |= uint32(KernelQueryFlagsQUERY_NAME)
	})
	return o.Answer(t)
}

// AskHello asks about the beginning of a TLS connection.
func (o *Oracle) AskHello(t testing.TB, p policy.Process, h policy.Hello) compile.Decision {
	t.Helper()
	o.Put(t, p, h.Call, false)
	o.put(t, func(query *KernelQuery) {
		query.Accept = o.accepts(t, "oracle_server", h.ServerName)
		query.Flags |= uint32(KernelQueryFlagsQUERY_HELLO)
	})
	return o.Answer(t)
}

// put changes the question last put.
func (o *Oracle) put(t testing.TB, change func(*KernelQuery)) {
	t.Helper()
	var question KernelQuestion
	get(t, o.coll, "oracle_question", &question)
	change(&question.Query)
	set(t, o.coll, "oracle_question", &question)
}

// accepts is the number of the rules whose patterns match a name; 0 for "".
func (o *Oracle) accepts(t testing.TB, program, name string) (number uint32) {
	t.Helper()
	if name == "" {
		return 0
	}
	var text [len(KernelName{}.Text)]byte
	if copy(text[:], name) == len(text) {
		t.Fatalf("%q is longer than a name", name)
	}
	set(t, o.coll, "oracle_text", &text)
	if _, err := o.Program(program).Run(&ebpf.RunOptions{Data: Packet()}); err != nil {
		t.Fatal("asking about a name: ", err)
	}
	get(t, o.coll, "oracle_accept", &number)
	return number
}

// Parsed is what the kernel's parser read of a DNS message.
type Parsed struct {
	OK        bool
	Message   KernelDnsMessage
	Addresses []netip.Addr
	TTLs      []uint32
}

// Name is the name in the question, in lower case without the last dot.
func (p Parsed) Name() string {
	for i, c := range p.Message.Name {
		if c == 0 {
			return string(p.Message.Name[:i])
		}
	}
	return ""
}

// Parse reads a DNS message, an answer or else a query, by BPF_PROG_RUN.
func (o *Oracle) Parse(t testing.TB, answer bool, message []byte) Parsed {
	t.Helper()
	const ethernet, begin = 14, 40
	frame := append(make([]byte, ethernet+begin), message...)
	frame[12], frame[13], frame[ethernet] = 0x86, 0xdd, 0x60
	kind := uint32(0)
	if answer {
		kind = 1
	}
	set(t, o.coll, "oracle_kind", &kind)
	if _, err := o.Program("oracle_parse").Run(&ebpf.RunOptions{Data: frame}); err != nil {
		t.Fatalf("parsing %x: %v", message, err)
	}
	var m KernelMessage
	get(t, o.coll, "oracle_message", &m)
	p := Parsed{OK: m.Ok != 0, Message: m.M}
	for i := range min(int(m.M.Found), len(m.Address)) {
		p.Addresses = append(p.Addresses, netip.AddrFrom16(m.Address[i]).Unmap())
		p.TTLs = append(p.TTLs, m.Ttl[i])
	}
	return p
}
