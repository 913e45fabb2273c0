package oracle

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
)

// Hello reads what a TLS client sends on a new connection, which comes in pieces of size bytes. It returns the flaw (enum
// hello_flaw) that ended the reading, and what came behind the first ClientHello: "more" (that is not to be seen yet), "over"
// (no other that asks for a name), or "bad" and the flaw; "" where the first one is not whole.
func (s *Streams) Hello(t testing.TB, stream []byte, size int) (flaw int, then string) {
	t.Helper()
	hellos := StreamsHellos{}
	hellos.Now.Need = 1 // as hello_begin()
	set(t, s.coll, "streams_hellos", &hellos)
	for at := 0; at < len(stream); at += size {
		piece := stream[at:min(at+size, len(stream))]
		if _, err := s.Program("streams_hello").Run(&ebpf.RunOptions{Data: Frame(piece)}); err != nil {
			t.Fatalf("reading %x: %v", piece, err)
		}
	}
	get(t, s.coll, "streams_hellos", &hellos)
	flaw = int(hellos.Now.Flaw)
	switch {
	case hellos.Begun == 0:
		return flaw, ""
	case StreamsHelloEvent(hellos.Event) == StreamsHelloEventHELLO_BAD:
		return flaw, fmt.Sprintf("bad %d", flaw)
	case StreamsHelloEvent(hellos.Event) == StreamsHelloEventHELLO_OVER:
		return flaw, "over"
	}
	return flaw, "more"
}
