package gate

import (
	"encoding/binary"
	"fmt"
	"strings"
	"structs"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sallyport/sallyport/probes/event"
)

// passed is struct passed: what gate_skb says of a connection with requests.
type passed struct {
	_                         structs.HostLayout
	First, Next, End, Place   uint32
	On, Said, HasSaid, Placed uint32
	Upgrade                   uint32
}

// How a connection ends: enum http_end.
const (
	goesOn = iota
	text
	head
	reset
	stream
	streamHead
)

const (
	redirected = uint32(7) // TC_ACT_REDIRECT
	flowHTTP   = 3
)

// The answer to a denied request, and what of it a HEAD gets.
const (
	answerHead = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 15\r\nConnection: close\r\n\r\n"
	answer     = answerHead + "Access denied\r\n"
)

// exchange is a segment of a connection with requests, and what becomes of it.
type exchange struct {
	name    string
	passed  *passed // nil: nothing is known
	inward  bool    // the server is in the pod
	back    bool    // the segment is the server's
	segment layers.TCP
	payload string
	want    uint32
	said    string      // for redirected: what the answer carries
	is      *layers.TCP // its sequence numbers and flags
	saidTo  uint32      // not 0: up to where the server has said something by then
}

// want is a segment's place and flags.
func segment(seq, ack uint32, flags string) layers.TCP {
	return layers.TCP{
		Seq: seq, Ack: ack, SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"),
		FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R"), PSH: strings.Contains(flags, "P"),
	}
}

func said(seq, ack uint32, flags string) *layers.TCP {
	s := segment(seq, ack, flags)
	return &s
}

// The answer to a denied request on stream 0x10203 of HTTP/2: settings, status, body, and that no later stream is answered.
const (
	streamAnswer = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x05\x01\x04\x00\x01\x02\x03\x08\x03403" +
		"\x00\x00\x0f\x00\x01\x00\x01\x02\x03Access denied\r\n" + streamGoAway
	streamAnswerHead = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x05\x01\x05\x00\x01\x02\x03\x08\x03403" + streamGoAway
	streamGoAway     = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x01\x02\x03\x00\x00\x00\x00"
)

// exchanges of a client that has sent what is before 1000, and a server that has answered as far as 5000.
func exchanges() (all []exchange) {
	open, wraps := &passed{First: 900, Next: 1000}, &passed{First: ^uint32(49), Next: 50}
	all = []exchange{
		{name: "what was read", passed: open, segment: segment(900, 5000, "A"), payload: strings.Repeat("x", 100), want: next},
		{name: "the last byte of it", passed: open, segment: segment(999, 5000, "A"), payload: "x", want: next},
		{name: "one byte more", passed: open, segment: segment(900, 5000, "A"), payload: strings.Repeat("x", 101), want: drop},
		{name: "what nobody has read", passed: open, segment: segment(1000, 5000, "A"), payload: "x", want: drop},
		{name: "what was before", passed: open, segment: segment(899, 5000, "A"), payload: "x", want: drop},
		{name: "an acknowledgement", passed: open, segment: segment(1000, 5000, "A"), want: next},
		{name: "an end", passed: open, segment: segment(1000, 5000, "AF"), want: next},
		{name: "around the end of the numbers", passed: wraps, segment: segment(^uint32(49), 5000, "A"), payload: strings.Repeat("x", 100), want: next},
		{name: "around it, one byte more", passed: wraps, segment: segment(^uint32(49), 5000, "A"), payload: strings.Repeat("x", 101), want: drop},
		{name: "data of an unknown connection", segment: segment(900, 5000, "A"), payload: "x", want: drop},
		{name: "the beginning of an unknown connection", segment: segment(900, 0, "S"), want: next},
		{name: "an answer", passed: open, back: true, segment: segment(5000, 1000, "A"), payload: "x", want: next},
		{name: "a request to a server in the pod", passed: nil, inward: true, segment: segment(1000, 5000, "A"), payload: "x", want: next},
		{name: "an answer of a server in the pod", passed: nil, inward: true, back: true, segment: segment(5000, 1000, "A"), payload: "x", want: next},
	}
	for _, inward := range []bool{false, true} {
		all = append(all, endings(inward)...)
	}
	return all
}

// endings are exchanges on a connection whose request at 1000 was denied.
func endings(inward bool) (all []exchange) {
	denied, headed, broken := &passed{Next: 1000, End: text, Place: 5000}, &passed{Next: 1000, End: head, Place: 5000}, &passed{Next: 1000, End: reset, Place: 5000}
	begun, busy := &passed{Next: 1000, End: text, Place: 5000, Placed: 1}, &passed{Next: 1000, End: text, Place: 5000, Said: 5010, HasSaid: 1}
	streamed, streamHeaded := &passed{Next: 1000, End: stream, Place: 5000, On: 0x10203}, &passed{Next: 1000, End: streamHead, Place: 5000, On: 0x10203}
	const end = 5000 + uint32(len(answer)) + 1
	all = []exchange{
		{name: "the denied request", passed: denied, segment: segment(1000, 5000, "PA"), payload: "GET", want: redirected, said: answer, is: said(5000, 1003, "PAF")},
		{name: "again, with more", passed: denied, segment: segment(1000, 5000, "PA"), payload: "GET /", want: redirected, said: answer, is: said(5000, 1005, "PAF")},
		{name: "with its end", passed: denied, segment: segment(1000, 5000, "PAF"), payload: "GET", want: redirected, said: answer, is: said(5000, 1004, "PAF")},
		{name: "a denied HEAD", passed: headed, segment: segment(1000, 5000, "PA"), payload: "HEAD", want: redirected, said: answerHead, is: said(5000, 1004, "PAF")},
		{name: "one that is reset", passed: broken, segment: segment(1000, 5000, "PA"), payload: "GET", want: redirected, is: said(5000, 1003, "RA")},
		{name: "of a client that lacks an answer", passed: denied, segment: segment(1000, 4990, "PA"), payload: "GET", want: redirected, said: answer, is: said(5000, 1003, "PAF")},
		{name: "of one that has more of them", passed: denied, segment: segment(1000, 5003, "PA"), payload: "GET", want: redirected, said: answer, is: said(5003, 1003, "PAF")},
		{name: "while the server speaks", passed: busy, segment: segment(1000, 5003, "PA"), payload: "GET", want: redirected, said: answer, is: said(5010, 1003, "PAF")},
		{name: "on a stream", passed: streamed, segment: segment(1000, 5000, "PA"), payload: "GET", want: redirected, said: streamAnswer, is: said(5000, 1003, "PAF")},
		{name: "a HEAD on a stream", passed: streamHeaded, segment: segment(1000, 5000, "PA"), payload: "GET", want: redirected, said: streamAnswerHead, is: said(5000, 1003, "PAF")},
		{name: "more behind the answer", passed: begun, segment: segment(1003, end, "A"), payload: "more", want: redirected, is: said(end, 1007, "A")},
		{name: "the client's end", passed: begun, segment: segment(1003, end, "AF"), want: redirected, is: said(end, 1004, "A")},
		{name: "the answer acknowledged", passed: begun, segment: segment(1003, end, "A"), want: drop},
		{name: "a reset by the client", passed: denied, segment: segment(1003, 0, "R"), want: next},
		{name: "without an acknowledgement", passed: denied, segment: segment(1000, 0, "P"), payload: "GET", want: drop},
	}
	if !inward {
		all = append(all,
			exchange{name: "what the server says then", passed: denied, back: true, segment: segment(5000, 1000, "PA"), payload: "HTTP", want: redirected, is: said(1000, 5004, "RA")},
			exchange{name: "a reset by the server", passed: denied, back: true, segment: segment(5000, 1000, "RA"), want: drop})
	} else {
		all = append(all,
			exchange{name: "another connection", passed: denied, segment: segment(77, 0, "S"), want: next},
			exchange{name: "what the server says then", passed: denied, back: true, segment: segment(5000, 1000, "PA"), payload: "HTTP", want: next, saidTo: 5004},
			exchange{name: "what it said before comes again", passed: busy, back: true, segment: segment(5000, 1000, "PA"), payload: "HTTP", want: next, saidTo: 5010},
			exchange{name: "what it says behind the answer", passed: begun, back: true, segment: segment(5000, 1000, "PA"), payload: "HTTP", want: redirected, is: said(1000, 5004, "RA")},
			exchange{name: "the answer itself", passed: begun, back: true, segment: segment(5000, 1003, "PAF"), payload: answer, want: next})
	}
	for i := range all {
		all[i].inward = inward
		all[i].name += map[bool]string{false: ", out", true: ", in"}[inward]
	}
	return all
}

// frameOf is the frame of an exchange, and whether it goes to the pod.
func (x exchange) frameOf(t testing.TB, ip6, stamped bool) (f []byte, toPod bool) {
	t.Helper()
	pod, peer := pod4, peer4
	if ip6 {
		pod, peer = pod6, peer6
	}
	toPod = x.inward != x.back
	h, from, to := x.segment, pod, peer
	h.SrcPort, h.DstPort, h.Window = podPort, peerPort, 1000
	if toPod {
		from, to = peer, pod
		h.SrcPort, h.DstPort = h.DstPort, h.SrcPort
	}
	if stamped {
		h.Options = stamps(77, 99)
	}
	b := serialize(t, &h, gopacket.Payload(x.payload))
	if ip6 {
		return frame(t, v6(t, from, to, tcp, b)), toPod
	}
	return frame(t, v4(t, from, to, tcp, b)), toPod
}

// TestRequests: of a client in the pod only what was read passes; the rest, on either side of a connection whose request
// was denied, is answered at the right place, with the right checksums.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	for _, slow := range []bool{false, true} {
		w.setSlot(t, &gateSlot{NetNS: cookie, Ifindex: map[bool]uint32{false: ifindex, true: 0}[slow]})
		for _, ip6 := range []bool{false, true} {
			for _, stamped := range []bool{false, true} {
				for _, x := range exchanges() {
					t.Run(fmt.Sprintf("slow=%t/ip6=%t/stamped=%t/%s", slow, ip6, stamped, x.name), func(t *testing.T) { x.check(t, w, ip6, stamped) })
				}
			}
		}
	}
}

func (x exchange) check(t *testing.T, w *world, ip6, stamped bool) {
	key := tuple4(tcp).key()
	if ip6 {
		key = tuple6(tcp).key()
	}
	f := flow{Decision: revision<<8 | uint64(event.VerdictAllow), State: flowHTTP}
	if x.inward {
		f.Direction = 1
	}
	defer w.forget(t)
	if err := w.flows.Put(key, &f); err != nil {
		t.Fatal(err)
	}
	_ = w.passed.Delete(key) // of the case before
	if x.passed != nil {
		if err := w.passed.Put(key, x.passed); err != nil {
			t.Fatal(err)
		}
	}
	x.run(t, w, ip6, stamped)
	var then passed
	err := w.passed.Lookup(key, &then)
	if x.segment.SYN && x.passed != nil && err == nil {
		t.Error("the end of one connection is left to the next")
	}
	if x.saidTo != 0 && (err != nil || then.Said != x.saidTo || then.HasSaid != 1) {
		t.Errorf("the server has said what is before %d (%v), want %d", then.Said, err, x.saidTo)
	}
}

// run gives the segment to the program that it comes by, and looks at what becomes of it.
func (x exchange) run(t *testing.T, w *world, ip6, stamped bool) {
	t.Helper()
	in, toPod := x.frameOf(t, ip6, stamped)
	program := w.fromPod
	if toPod {
		program = w.toPod
	}
	o := &ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+1000)}
	got, err := program.Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if got != x.want {
		t.Fatalf("the verdict is %#x, want %#x", got, x.want)
	}
	if got == redirected {
		x.answered(t, in, o.DataOut, stamped && !x.is.RST)
	}
}

// stamps are the options of a segment with timestamps.
func stamps(own, echoed uint32) []layers.TCPOption {
	pad := layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1}
	data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, own), echoed)
	return []layers.TCPOption{pad, pad, {OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: data}}
}

// answered checks the frame that was made of another.
func (x exchange) answered(t *testing.T, in, out []byte, stamped bool) {
	t.Helper()
	p, was := gopacket.NewPacket(out, layers.LayerTypeEthernet, gopacket.Default), gopacket.NewPacket(in, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("%x: %v", out, e.Error())
	}
	if got, want := p.LinkLayer().LinkFlow(), was.LinkLayer().LinkFlow().Reverse(); got != want {
		t.Errorf("it goes %v, want %v", got, want)
	}
	if got, want := p.NetworkLayer().NetworkFlow(), was.NetworkLayer().NetworkFlow().Reverse(); got != want {
		t.Errorf("it goes %v, want %v", got, want)
	}
	h, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		t.Fatalf("%x has no TCP", out)
	}
	if got, want := h.TransportFlow(), was.TransportLayer().TransportFlow().Reverse(); got != want {
		t.Errorf("it goes %v, want %v", got, want)
	}
	var want []layers.TCPOption
	if stamped {
		want = stamps(99, 77)
	}
	if fmt.Sprint(h.Options) != fmt.Sprint(want) {
		t.Errorf("its options are %v, want %v", h.Options, want)
	}
	got := segment(h.Seq, h.Ack, "")
	got.ACK, got.FIN, got.RST, got.PSH, got.SYN = h.ACK, h.FIN, h.RST, h.PSH, h.SYN
	if fmt.Sprint(got) != fmt.Sprint(*x.is) || string(h.Payload) != x.said {
		t.Errorf("it is %+v with %q, want %+v with %q", got, h.Payload, *x.is, x.said)
	}
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && sum(ip.Contents) != 0xffff {
		t.Errorf("the checksum of %x is wrong", ip.Contents)
	}
	if transportSum(p) != 0xffff {
		t.Errorf("the checksum of %x is wrong", h.Contents)
	}
}

// transportSum is 0xffff when the checksum of a packet's TCP is right.
func transportSum(p gopacket.Packet) uint16 {
	src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
	b := append(append([]byte{}, src.Raw()...), dst.Raw()...)
	body := append(append([]byte{}, p.TransportLayer().LayerContents()...), p.TransportLayer().LayerPayload()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(tcp))
	return sum(append(b, body...))
}

// sum is the ones' complement sum of RFC 1071.
func sum(b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var n uint32
	for i := 0; i < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for n > 0xffff {
		n = n&0xffff + n>>16
	}
	return uint16(n)
}

// TestRequestsInFragments: no fragment of a client's segment passes, whatever was read.
func TestRequestsInFragments(t *testing.T) {
	w := newWorld(t)
	key := tuple4(tcp).key()
	if err := w.flows.Put(key, &flow{Decision: revision<<8 | uint64(event.VerdictAllow), State: flowHTTP}); err != nil {
		t.Fatal(err)
	}
	if err := w.passed.Put(key, &passed{First: 0, Next: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	more := func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }
	later := func(ip *layers.IPv4) { ip.FragOffset = 3 }
	for name, f := range map[string][]byte{
		"first": v4(t, pod4, peer4, tcp, append(transport(t, tcp, podPort, peerPort), "GET "...), more),
		"later": v4(t, pod4, peer4, tcp, []byte("/exhaust"), later),
	} {
		if got, ok := give(t, w.fromPod, frame(t, f)); ok && got != drop {
			t.Errorf("the %s fragment gets %#x", name, got)
		}
	}
}
