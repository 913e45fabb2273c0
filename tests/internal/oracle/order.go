package oracle

import (
	"testing"

	"github.com/cilium/ebpf"
)

// MostSegment is how many bytes a segment of Order may have.
const MostSegment = 64

// Segment is a segment of TCP, and what its socket knows when it passes.
type Segment struct {
	Seq    uint32
	Text   string
	Flags  uint8  // of TCP
	Out    bool   // leaving its socket
	Taken  uint32 // coming in: up to where TCP has the bytes
	AtRest bool   // coming in: no other waits for the socket
	Free   uint32 // how many of the next bytes may be anything
	NowNs  uint64
}

// Begin begins a connection at the byte of this sequence number.
func (s *Streams) Begin(t testing.TB, seq uint32) {
	t.Helper()
	o := StreamsOrdered{}
	o.Stream.Next, o.Stream.From, o.Stream.Begun = seq, seq, 1
	set(t, s.coll, "streams_ordered", &o)
}

// Unknown makes the connection one of which nobody has seen the beginning.
func (s *Streams) Unknown(t testing.TB) {
	t.Helper()
	set(t, s.coll, "streams_ordered", &StreamsOrdered{})
}

// Order puts a segment in order. It returns what is to be done with it, and what was read of the connection so far.
func (s *Streams) Order(t testing.TB, seg Segment) (order StreamsStreamOrder, read string) {
	t.Helper()
	var o StreamsOrdered
	get(t, s.coll, "streams_ordered", &o)
	o.Segment.Seq, o.Segment.Len, o.Segment.Flags = seg.Seq, uint32(len(seg.Text)), seg.Flags
	o.Segment.Out, o.Segment.AtRest = number(seg.Out), number(seg.AtRest)
	o.Segment.Taken, o.Segment.Free, o.Segment.NowNs, o.NowNs = seg.Taken, seg.Free, seg.NowNs, seg.NowNs
	set(t, s.coll, "streams_ordered", &o)
	code, err := s.Program("streams_order").Run(&ebpf.RunOptions{Data: append(Frame([]byte(seg.Text)), 0)})
	if err != nil || code != 0 {
		t.Fatalf("the oracle ended with %d: %v: %+v", code, err, seg)
	}
	get(t, s.coll, "streams_ordered", &o)
	return StreamsStreamOrder(o.Order), string(o.Text[:o.Len])
}

func number(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
