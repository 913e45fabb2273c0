package bench

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
)

// requestsAtOnce are in one packet: no run goes on where another has ended, so each is measured alone.
const requestsAtOnce = 20

func TestStreams(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	s := oracle.NewStreams(t)
	packet := oracle.Frame(grpcCalls(t, requestsAtOnce))
	each := func(program string) func() time.Duration {
		return func() time.Duration {
			quickest := time.Hour
			for range 200 {
				s.Reset(t)
				result, d, err := s.Program(program).Benchmark(packet, 1, nil)
				if err != nil || result != 0 {
					t.Fatalf("%s returned %d: %v", program, result, err)
				}
				quickest = min(quickest, d)
			}
			return quickest / requestsAtOnce
		}
	}
	base, ours := alternate(programRounds, each("streams_touch"), each("streams_http2"))
	printTable("Parsers, BPF_PROG_RUN against loading the same bytes", []row{{"HTTP/2: head of a gRPC call, HPACK decoded", base, ours, "≤ 6 µs over"}})
}

// grpcCalls is what a client sends that makes n calls over one connection: of most fields the table has all but the first.
func grpcCalls(t *testing.T, n int) []byte {
	t.Helper()
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	encoder := hpack.NewEncoder(&block)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		block.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/shop.v1.Checkout/Charge"},
			{Name: ":authority", Value: "checkout.shop.svc.cluster.local:50051"},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "user-agent", Value: "grpc-go/1.76.0"},
			{Name: "te", Value: "trailers"},
			{Name: "grpc-timeout", Value: "999999u"},
		} {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		stream := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: block.Bytes()}); err != nil {
			t.Fatal(err)
		}
		if err := framer.WriteData(stream, true, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}
