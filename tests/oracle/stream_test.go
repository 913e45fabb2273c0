package oracle

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	pass, read, drop, lost = oracle.StreamsStreamOrderSTREAM_PASS, oracle.StreamsStreamOrderSTREAM_READ, oracle.StreamsStreamOrderSTREAM_DROP, oracle.StreamsStreamOrderSTREAM_LOST
	tcpSYN, tcpRST         = 2, 4
	later                  = uint64(60e6) // ns: nothing that passed before is on its way any more
)

// TestOrderOfSegments: one segment after another, and what is done with each. Every connection begins at wrap, so that
// sequence numbers pass through zero.
func TestOrderOfSegments(t *testing.T) {
	const wrap = ^uint32(0) - 2
	type step struct {
		seg  oracle.Segment
		want oracle.StreamsStreamOrder
		text string // read so far
	}
	out := func(at uint32, text string) oracle.Segment {
		return oracle.Segment{Seq: wrap + at, Text: text, Out: true}
	}
	in := func(at uint32, text string, taken uint32) oracle.Segment {
		return oracle.Segment{Seq: wrap + at, Text: text, Taken: wrap + taken, AtRest: true}
	}
	with := func(seg oracle.Segment, change func(*oracle.Segment)) oracle.Segment { change(&seg); return seg }
	free := func(n uint32) func(*oracle.Segment) { return func(s *oracle.Segment) { s.Free = n } }
	at := func(ns uint64) func(*oracle.Segment) { return func(s *oracle.Segment) { s.NowNs = ns } }
	s := oracle.NewStreams(t)
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"out, piece by piece", []step{{out(0, "ab"), read, "ab"}, {out(2, "cdef"), read, "abcdef"}, {out(6, ""), pass, "abcdef"}}},
		{"out, sent again", []step{{out(0, "abcd"), read, "abcd"}, {out(0, "abcd"), pass, "abcd"}, {out(2, "c"), pass, "abcd"}}},
		{"out, sent again with more", []step{{out(0, "abcd"), read, "abcd"}, {out(2, "cdef"), read, "abcdef"}}},
		{"out, with a gap", []step{{out(0, "ab"), read, "ab"}, {out(3, "d"), lost, "ab"}}},
		{"out, a probe before the window", []step{{out(0, "ab"), read, "ab"}, {out(^uint32(0), "x"), pass, "ab"}}},
		{"in, piece by piece", []step{{in(0, "ab", 0), read, "ab"}, {in(2, "cd", 2), read, "abcd"}}},
		{"in, before its turn", []step{{in(2, "cd", 0), drop, ""}, {in(0, "ab", 0), read, "ab"}, {in(2, "cd", 2), read, "abcd"}}},
		{"in, sent again and taken", []step{{in(0, "ab", 0), read, "ab"}, {in(0, "XY", 2), pass, "ab"}}},
		{"in, overlapping what is taken", []step{{in(0, "ab", 0), read, "ab"}, {in(1, "Xcd", 2), read, "abcd"}}},
		{"in, not taken and still on its way", []step{{in(0, "ab", 0), read, "ab"}, {in(0, "XY", 0), drop, "ab"}, {in(2, "cd", 0), drop, "ab"}, {in(2, "cd", 2), read, "abcd"}}},
		{"in, not taken: read again", []step{{in(0, "ab", 0), read, "ab"}, {with(in(0, "XYZ", 0), at(later)), read, "XYZ"}, {in(3, "d", 3), read, "XYZd"}}},
		{"in, not taken, the next first", []step{{in(0, "ab", 0), read, "ab"}, {with(in(2, "cd", 0), at(later)), drop, ""}, {in(0, "XY", 0), read, "XY"}}},
		{"in, not taken, one waits for the socket", []step{{in(0, "ab", 0), read, "ab"}, {with(in(0, "XY", 0), func(s *oracle.Segment) { s.AtRest, s.NowNs = false, later }), drop, "ab"}}},
		{"in, half taken", []step{{in(0, "abcd", 0), read, "abcd"}, {with(in(2, "XYZ", 2), at(later)), lost, ""}}},
		{"in, taken unread", []step{{in(0, "ab", 0), read, "ab"}, {in(9, "x", 9), lost, "ab"}}},
		{"in, free bytes do not wait", []step{{in(0, "ab", 0), read, "ab"}, {with(in(2, "cd", 2), free(9)), read, "abcd"}, {with(in(4, "ef", 2), free(7)), read, "abcdef"}, {with(in(2, "XY", 2), free(5)), pass, "abcdef"}}},
		{"in, what matters waits behind free bytes", []step{{with(in(0, "ab", 0), free(2)), read, "ab"}, {in(2, "cd", 0), drop, "ab"}, {in(2, "cd", 2), read, "abcd"}}},
		{"in, what matters comes with free bytes sent again", []step{{with(in(0, "ab", 0), free(2)), read, "ab"}, {in(0, "XYcd", 0), read, "abcd"}, {in(4, "ef", 4), read, "abcdef"}}},
		{"data with a SYN", []step{{with(out(0, "ab"), func(s *oracle.Segment) { s.Flags = tcpSYN }), drop, ""}, {out(0, "ab"), read, "ab"}}},
		{"text of a reset", []step{{with(in(0, "ab", 0), func(s *oracle.Segment) { s.Flags = tcpRST }), pass, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Begin(t, wrap)
			for i, step := range c.steps {
				if order, text := s.Order(t, step.seg); order != step.want || text != step.text {
					t.Fatalf("step %d, %+v: order %d, read %q, not %d, %q", i, step.seg, order, text, step.want, step.text)
				}
			}
		})
	}
	s.Unknown(t)
	if order, _ := s.Order(t, in(0, "a", 0)); order != lost {
		t.Errorf("order %d on a connection that nobody saw begin", order)
	}
}

// receiver is TCP behind the packets: it takes bytes in order, keeps what comes early, the first copy of it, and leaves
// some packets waiting while its program holds the socket.
type receiver struct {
	taken   string
	early   map[int]byte
	waiting []oracle.Segment
}

func (r *receiver) take(seg oracle.Segment) {
	for i := range len(seg.Text) {
		at := int(seg.Seq) + i
		if _, there := r.early[at]; !there && at >= len(r.taken) {
			r.early[at] = seg.Text[i]
		}
	}
	for c, there := r.early[len(r.taken)]; there; c, there = r.early[len(r.taken)] {
		delete(r.early, len(r.taken))
		r.taken += string(c)
	}
}

// TestWhatIsReadIsWhatIsTaken: a sender that lies, with other bytes each time it sends some again, against a receiver that
// loses and delays. What TCP has taken at any time is what was read, but for free bytes, which are small letters.
func TestWhatIsReadIsWhatIsTaken(t *testing.T) {
	s := oracle.NewStreams(t)
	rounds := 60
	if testutil.InVM() {
		rounds = 6
	}
	total, dropped := 0, 0
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s.Begin(t, 0)
		tcp := receiver{early: map[int]byte{}}
		now, known := uint64(0), ""
		for range 150 {
			// Every third hundred bytes of the connection are free.
			begin := max(0, len(known)-rnd.IntN(12)+rnd.IntN(9))
			text := &strings.Builder{}
			for at := begin; at < begin+1+rnd.IntN(20); at++ {
				text.WriteByte("aA"[number(at/30%3 != 2)] + byte(rnd.IntN(26)))
			}
			free := 0
			for at := len(known); at/30%3 == 2; at++ {
				free++
			}
			seg := oracle.Segment{Seq: uint32(begin), Text: text.String(), Taken: uint32(len(tcp.taken)), AtRest: len(tcp.waiting) == 0, Free: uint32(free), NowNs: now}
			order, all := s.Order(t, seg)
			known = all
			if order == lost {
				t.Fatalf("seed %d: lost at %+v", seed, seg)
			}
			switch {
			case order == drop:
				dropped++
			case rnd.IntN(8) == 0: // a bad checksum
			case rnd.IntN(4) == 0 || len(tcp.waiting) > 0:
				tcp.waiting = append(tcp.waiting, seg)
			default:
				tcp.take(seg)
			}
			if rnd.IntN(3) == 0 {
				for _, one := range tcp.waiting {
					tcp.take(one)
				}
				tcp.waiting = nil
				now += later
			}
			for i := range len(tcp.taken) {
				if i >= len(known) || known[i] < 'a' && known[i] != tcp.taken[i] {
					t.Fatalf("seed %d: taken %q, read %q", seed, tcp.taken, known)
				}
			}
		}
		total += len(tcp.taken)
	}
	t.Logf("%d bytes taken, %d segments dropped", total, dropped)
	if total < rounds*100 || dropped < rounds {
		t.Error("the comparison proves little")
	}
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
