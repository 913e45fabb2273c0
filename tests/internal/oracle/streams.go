package oracle

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/sallyport/sallyport/tests/testutil"
)

//go:generate go tool -modfile=../../../contrib/tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -tags linux -no-global-types -type h2 -type h2_field -type hellos -type hello_event -type ordered -type stream_order Streams ../../../bpf/progs/streams.bpf.c

// ethernet is how many bytes of a packet the programs of streams.bpf.c pass over.
const ethernet = 14

// Streams is the parsers of streams, as the kernel runs them.
type Streams struct {
	coll *ebpf.Collection
}

// NewStreams loads the parsers, which needs root. They are gone at the end of the test.
func NewStreams(t testing.TB) *Streams {
	t.Helper()
	testutil.RequireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := LoadStreams()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("loading the parsers of streams: %+v", err)
	}
	t.Cleanup(coll.Close)
	return &Streams{coll}
}

// Program returns streams_http2 or streams_touch.
func (s *Streams) Program(name string) *ebpf.Program { return s.coll.Programs[name] }

// Frame is piece as a packet for those programs.
func Frame(piece []byte) []byte { return append(make([]byte, ethernet), piece...) }

// Reset begins a connection.
func (s *Streams) Reset(t testing.TB) {
	t.Helper()
	h := StreamsH2{}
	h.Hpack.Limit = 4096
	set(t, s.coll, "streams_h2", &h)
	none := uint32(0)
	set(t, s.coll, "streams_requests", &none)
}

// HTTP2 reads a new connection, which comes in pieces of size bytes, and returns a hash of each request and what error ended
// it: its number, HPACK's and the head's.
func (s *Streams) HTTP2(t testing.TB, stream []byte, size int) (hashes []uint64, bad [3]uint8) {
	t.Helper()
	s.Reset(t)
	for at := 0; at < len(stream); at += size {
		piece := stream[at:min(at+size, len(stream))]
		if _, err := s.Program("streams_http2").Run(&ebpf.RunOptions{Data: Frame(piece)}); err != nil {
			t.Fatalf("reading %x: %v", piece, err)
		}
	}
	var h StreamsH2
	var n uint32
	var all [65]uint64
	get(t, s.coll, "streams_h2", &h)
	get(t, s.coll, "streams_requests", &n)
	get(t, s.coll, "streams_hash", &all)
	return all[:n], [3]uint8{h.Error, h.Hpack.Error, h.Head.Error}
}

// HTTP2Hash is what HTTP2 returns for a request of these fields. It knows the fields that rules can be about by their names.
func HTTP2Hash(names, values []string) uint64 {
	mix := func(hash uint64, c uint32) uint64 {
		hash = (hash ^ uint64(c)) * 0x100000001b3
		return hash ^ hash>>29
	}
	known := map[string]StreamsH2Field{
		":method": StreamsH2FieldH2FIELD_METHOD, ":scheme": StreamsH2FieldH2FIELD_SCHEME, ":authority": StreamsH2FieldH2FIELD_AUTHORITY,
		":path": StreamsH2FieldH2FIELD_PATH, "host": StreamsH2FieldH2FIELD_HOST, "te": StreamsH2FieldH2FIELD_TE,
	}
	hash := uint64(0)
	for i, name := range names {
		for _, c := range []byte(values[i]) {
			hash = mix(hash, uint32(c))
		}
		field, ok := known[name]
		if !ok {
			field = StreamsH2FieldH2FIELD_OTHER
		}
		hash = mix(hash, 256+uint32(field))
	}
	return hash
}
