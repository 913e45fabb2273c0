package names

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/tests/testutil"
)

// lot makes addresses of a kind, the n-th lot.
func lot(kind dnsmessage.Type, n, count int) (all []netip.Addr) {
	for i := range count {
		a := netip.AddrFrom4([4]byte{10, byte(n), byte(i >> 8), byte(i)})
		if kind == dnsmessage.TypeAAAA {
			a = netip.AddrFrom16([16]byte{0xfd, 2, 13: byte(n), 14: byte(i >> 8), 15: byte(i)})
		}
		all = append(all, a)
	}
	return all
}

// wantAll reads an answer with these addresses and connects to each, to some of them in a guest.
func wantAll(t *testing.T, from *insider, stream int, all []netip.Addr) {
	t.Helper()
	r := from.want(t, "ok", order{Do: "message", ID: stream, Wait: patience})
	if got := told(r.Bytes); len(got) != len(all) || got[0] != all[0] {
		t.Fatalf("the answer arrives with %d addresses, want %d", len(got), len(all))
	}
	step := 1
	if testutil.InVM() { // an emulated guest takes its time for each
		step = 50
	}
	for i := 0; i < len(all); i += step {
		from.want(t, "ok", order{Do: "connect", Address: at(all[i], 443)})
	}
	from.want(t, "ok", order{Do: "connect", Address: at(all[len(all)-1], 443)})
}

// TestLongOverTCP: answers that are longer than what is kept with a socket, one behind the other and in pieces.
func TestLongOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{Most: 20000})
	a := newInsider(t, s.a)
	stream := 0
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		for _, count := range []int{150, 500, 1000} {
			for _, piece := range []int{0, 97, 1400} {
				t.Run(fmt.Sprintf("%d of %s in pieces of %d", count, kind, piece), func(t *testing.T) {
					stream++
					n := 0
					s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
						n++
						return [][]byte{answer(query, q, 60, lot(kind, n, count)...)}
					})
					s.resolver.mu.Lock()
					s.resolver.piece = piece
					s.resolver.mu.Unlock()
					s.dialResolver(t, a, stream)
					const rounds = 3 // two of them before any is read
					ask := func(id int) {
						a.want(t, "ok", order{Do: "write", ID: stream, Bytes: framed(query(uint16(id), "many.good.example.", kind))})
					}
					ask(1)
					for round := 1; round <= rounds; round++ {
						if round < rounds {
							ask(round + 1)
						}
						wantAll(t, a, stream, lot(kind, round, count))
					}
					a.want(t, "ok", order{Do: "close", ID: stream})
				})
			}
		}
	}
}

// TestRoomsForLongAnswers: a container has a few at a time. Who finds none has its answer later, and the next container's
// do not wait for it.
func TestRoomsForLongAnswers(t *testing.T) {
	s := newScene(t, probes.Names{Most: 20000})
	a, b := newInsider(t, s.a), newInsider(t, s.b)
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		return [][]byte{answer(query, q, 60, lot(q.Type, int(query[1]), 200)...)}
	})
	halves := s.resolver.inHalves()
	const streams = 10 // more than there are for one
	for i := range streams {
		s.dialResolver(t, a, i)
		a.want(t, "ok", order{Do: "write", ID: i, Bytes: framed(query(uint16(i), "many.good.example.", dnsmessage.TypeA))})
		halves.await(t)
	}
	s.resolver.mu.Lock()
	s.resolver.halves = nil
	s.resolver.mu.Unlock()
	s.dialResolver(t, b, 1)
	b.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(99, "many.good.example.", dnsmessage.TypeA))})
	if r := b.want(t, "ok", order{Do: "message", ID: 1, Wait: patience}); len(told(r.Bytes)) != 200 {
		t.Errorf("the other container is told %d addresses", len(told(r.Bytes)))
	}
	close(halves.rest)
	for i := range streams {
		wantAll(t, a, i, lot(dnsmessage.TypeA, i, 200))
	}
}
