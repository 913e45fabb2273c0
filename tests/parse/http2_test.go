package parse

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/http2"
)

// compareHTTP2 holds the parser against the oracle on one stream and says what it saw.
func compareHTTP2(t testing.TB, p *HTTP2, stream []byte, size int) string {
	t.Helper()
	want, err := ReferenceHTTP2(stream)
	got, bad := p.Read(t, stream, size)
	if bad == "" && err == nil && len(got) != len(want) {
		t.Fatalf("the parser reads %d requests, the oracle %d: %x", len(got), len(want), stream)
	}
	// What both read before either met an error is the same.
	both := min(len(got), len(want))
	if diff := cmp.Diff(want[:both], got[:both], cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%x: (-oracle +parser)\n%s", stream, diff)
	}
	switch {
	case bad == "" && err == nil:
		return "read"
	case bad != "" && err != nil:
		return "bad"
	case bad != "":
		return "stricter"
	}
	// Where the server ends the connection or a stream for a frame that is no head's, what comes behind it there reaches
	// nobody. What it finds wrong in a head has a cause.
	var connection http2.ConnectionError
	var ended http2.StreamError
	if errors.As(err, &ended) && ended.Cause == nil {
		return "laxer"
	}
	if !errors.As(err, &connection) && !errors.Is(err, io.ErrUnexpectedEOF) || connection == http2.ConnectionError(http2.ErrCodeCompression) {
		t.Fatalf("the parser takes what the oracle refuses (%v): %x", err, stream)
	}
	return "laxer"
}

// TestHTTP2AsGo: what a client sends is read as Go's server reads it, however it comes in pieces, and no head that Go
// refuses is taken.
func TestHTTP2AsGo(t *testing.T) {
	p, c := StartHTTP2(t), NewClient(1)
	seen := map[string]int{}
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	for i := range rounds {
		stream, size := c.Stream(1+i%6), 1+i*i%1000
		if outcome := compareHTTP2(t, p, stream, size); outcome != "read" {
			t.Fatalf("a client's stream is refused (%s): %x", outcome, stream)
		}
		seen[compareHTTP2(t, p, c.Mutate(stream), size)]++
	}
	t.Log(seen)
	for _, outcome := range []string{"bad", "read", "stricter"} {
		if seen[outcome] < rounds/50 {
			t.Errorf("only %d changed streams were %q: the comparison proves little about it", seen[outcome], outcome)
		}
	}
}

// TestHTTP2Vectors: what decides and what no random change is likely to show, at many splits.
func TestHTTP2Vectors(t *testing.T) {
	p := StartHTTP2(t)
	for _, v := range HTTP2Vectors(t) {
		for _, size := range []int{1, 2, 3, 5, 7, 11, 1 << 20} {
			if requests, bad := p.Read(t, v.Stream, size); len(requests) != v.Requests || bad != v.Bad {
				t.Errorf("%s, in pieces of %d bytes: %d requests, bad %q; want %d, %q", v.Name, size, len(requests), bad, v.Requests, v.Bad)
			}
		}
	}
}

// TestHTTP2TableMakesMuchOfLittle: a byte that stands for a long field cannot be repeated without end.
func TestHTTP2TableMakesMuchOfLittle(t *testing.T) {
	p := StartHTTP2(t)
	block := blockOf(t, []string{":method: GET", ":scheme: https", ":authority: a.example", ":path: /", "x: " + strings.Repeat("a", 3000)})
	stream := connection(t, func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: append(block, bytes.Repeat([]byte{0x80 | 62}, 1000)...)})
	})
	if requests, bad := p.Read(t, stream, 1<<20); bad != "4 6 0" {
		t.Errorf("%d requests, bad %q", len(requests), bad)
	}
}

// FuzzHTTP2 looks for a stream that the parser reads otherwise than Go.
func FuzzHTTP2(f *testing.F) {
	c := NewClient(7)
	for range 20 {
		f.Add(c.Stream(3), 5)
	}
	p := StartHTTP2(f)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 || size > 1<<16 || len(stream) > 1<<16 {
			t.Skip()
		}
		compareHTTP2(t, p, stream, size)
	})
}
