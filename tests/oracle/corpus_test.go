package oracle

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/parse"
	"github.com/sallyport/sallyport/tests/testutil"
)

// pieces are the sizes in which n bytes are read so that they are split at every place, or, where that would take long, at some.
func pieces(n int) (sizes []int) {
	step := 1
	if testutil.InVM() || n > 300 {
		step = 1 + n/5
	}
	for size := 1; size <= min(n, most); size += step {
		sizes = append(sizes, size)
	}
	return append(sizes, most)
}

// outcome reads a connection of HTTP/1 in pieces of a size, and says how many requests were judged and what ended it.
func (s *saidTo) outcome(t *testing.T, stream string, size int) string {
	t.Helper()
	call := policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 80}
	decisions, flaw := s.oracle.Requests(t, oracle.Connection{Process: s.process, Call: call, Said: stream, Piece: size})
	return fmt.Sprintf("%d requests, flaw %d", len(decisions), flaw)
}

// TestVectorsInTheKernel: each of the vectors of HTTP/1 has the flaw that it has on the host, wherever it is split.
func TestVectorsInTheKernel(t *testing.T) {
	said := newSaid(t)
	for _, v := range parse.Vectors() {
		whole := said.outcome(t, v.Stream, most)
		if want := fmt.Sprintf("flaw %d", v.FlawElsewhere()); whole[len(whole)-len(want):] != want {
			t.Errorf("%s: %s, want %s", v.Name, whole, want)
		}
		for _, size := range pieces(len(v.Stream)) {
			if got := said.outcome(t, v.Stream, size); got != whole {
				t.Errorf("%s, in pieces of %d: %s; whole %s", v.Name, size, got, whole)
			}
		}
	}
}

// TestCorpusInTheKernel: what libFuzzer found is read alike whole and byte by byte, and HTTP/2 and DNS as Go reads them.
func TestCorpusInTheKernel(t *testing.T) {
	said := newSaid(t)
	for _, input := range parse.Corpus(t, "http1") {
		whole := said.outcome(t, string(input), most)
		for _, size := range []int{1, 7} {
			if got := said.outcome(t, string(input), size); got != whole {
				t.Errorf("%q, in pieces of %d: %s; whole %s", input, size, got, whole)
			}
		}
	}
	streams := oracle.NewStreams(t)
	for _, input := range parse.Corpus(t, "http2") {
		want, _ := parse.ReferenceHTTP2(input) // where it ends badly counts what it has read before
		whole, bad := streams.HTTP2(t, input, most)
		got, badToo := streams.HTTP2(t, input, 1)
		if fmt.Sprint(whole, bad) != fmt.Sprint(got, badToo) {
			t.Errorf("%x: %d requests, %v; byte by byte %d, %v", input, len(whole), bad, len(got), badToo)
		}
		for i := range min(len(want), len(whole)) {
			if whole[i] != hashOf(want[i]) {
				t.Errorf("request %d is not %+v: %x", i, want[i], input)
			}
		}
	}
	for _, input := range parse.Corpus(t, "dns") {
		for _, answer := range []bool{false, true} {
			_, _, ok := parse.Reference(answer, input)
			if got := said.oracle.Parse(t, answer, input); got.OK != (ok && parse.Strict(input) == "") {
				t.Errorf("%x, as an answer %v: read %v; the library %v", input, answer, got.OK, ok)
			}
		}
	}
}
