package oracle

import (
	"testing"

	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/parse"
	"github.com/sallyport/sallyport/tests/testutil"
)

// TestKernelReadsHTTP2AsGo: the parser as the kernel runs it, on what a client sends and on streams near that.
func TestKernelReadsHTTP2AsGo(t *testing.T) {
	s := oracle.NewStreams(t)
	c := parse.NewClient(11)
	rounds := 500
	if testutil.InVM() {
		rounds = 50
	}
	read, bad, requests := 0, 0, 0
	for i := range rounds {
		stream := c.Stream(1 + i%5)
		if i%3 == 0 {
			stream = c.Mutate(stream)
		}
		want, err := parse.ReferenceHTTP2(stream)
		got, flaw := s.HTTP2(t, stream, 1+i*i%most)
		failed := flaw != [3]uint8{}
		if i%3 != 0 && (failed || len(got) != len(want)) {
			t.Fatalf("of %d requests of a client the kernel reads %d, %v (%v): %x", len(want), len(got), flaw, err, stream)
		}
		for j := range min(len(got), len(want)) {
			if got[j] != hashOf(want[j]) {
				t.Fatalf("request %d is not %+v: %x", j, want[j], stream)
			}
			requests++
		}
		if failed {
			bad++
		} else {
			read++
		}
	}
	t.Logf("%d streams read, %d refused, %d requests", read, bad, requests)
	if bad < rounds/20 || requests < rounds {
		t.Error("the comparison proves little")
	}
}

func hashOf(head parse.Head) uint64 {
	names, values := make([]string, len(head)), make([]string, len(head))
	for i, f := range head {
		names[i], values[i] = f.Name, f.Value
	}
	return oracle.HTTP2Hash(names, values)
}
