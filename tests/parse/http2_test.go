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
	"golang.org/x/net/http2/hpack"
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

// shape is a connection of one block of fields and what the parser must say of it.
type shape struct {
	name   string
	fields []string // "name: value"
	bad    string   // as Read says it; empty: one request
}

const badHead = "5 0 "

func shapes() []shape {
	get := func(more ...string) []string {
		return append([]string{":method: GET", ":scheme: https", ":authority: a.example", ":path: /"}, more...)
	}
	return []shape{
		{"a request", get(), ""},
		{"host as the authority", get("host: a.example"), ""},
		{"host alone", []string{":method: GET", ":scheme: https", ":path: /", "host: a.example"}, ""},
		{"another host", get("host: b.example"), badHead + "6"},
		{"a host that begins as the authority", get("host: a.exam"), badHead + "6"},
		{"a host that goes on", get("host: a.example.org"), badHead + "6"},
		{"no authority", []string{":method: GET", ":scheme: https", ":path: /"}, badHead + "6"},
		{"an empty authority", []string{":method: GET", ":scheme: https", ":authority: ", ":path: /"}, badHead + "6"},
		{"two hosts", get("host: a.example", "host: a.example"), badHead + "4"},
		{"two paths", get(":path: /other"), badHead + "4"},
		{"no path", []string{":method: GET", ":scheme: https", ":authority: a.example"}, badHead + "3"},
		{"an empty path", []string{":method: GET", ":scheme: https", ":authority: a.example", ":path: "}, badHead + "3"},
		{"no method", []string{":scheme: https", ":authority: a.example", ":path: /"}, badHead + "3"},
		{"an empty method", []string{":method: ", ":scheme: https", ":authority: a.example", ":path: /"}, badHead + "3"},
		{"a tunnel", []string{":method: CONNECT", ":authority: a.example:443"}, ""},
		{"a tunnel with a path", []string{":method: CONNECT", ":authority: a.example:443", ":path: /"}, badHead + "3"},
		{"a path behind fields", []string{":method: GET", ":scheme: https", "accept: *", ":path: /"}, badHead + "3"},
		{"an unknown pseudo-header", get(":protocol: websocket"), badHead + "3"},
		{"a colon in a name", get("x:y: 1"), badHead + "1"},
		{"an upper-case name", get("Accept: 1"), badHead + "1"},
		{"a space in a name", get("x y: 1"), badHead + "1"},
		{"no name", get(": 1"), badHead + "1"},
		{"a line feed in a value", get("x: 1\n2"), badHead + "2"},
		{"a space before a value", get("x:  1"), badHead + "2"},
		{"a space behind a value", get("x: 1 "), badHead + "2"},
		{"a connection", get("connection: close"), badHead + "5"},
		{"chunks", get("transfer-encoding: chunked"), badHead + "5"},
		{"an upgrade", get("upgrade: h2c"), badHead + "5"},
		{"trailers are taken", get("te: trailers"), ""},
		{"other encodings are not", get("te: gzip"), badHead + "5"},
		{"two lengths", get("content-length: 1", "content-length: 2"), badHead + "4"},
		{"a head of 9 KiB", get("x: "+strings.Repeat("a", 4500), "y: "+strings.Repeat("b", 4500)), "4 6 0"},
		{"300 fields", get(make300()...), "4 6 0"},
	}
}

func make300() []string {
	fields := make([]string, 300)
	for i := range fields {
		fields[i] = "x: 1"
	}
	return fields
}

// TestHTTP2Shapes: what decides and what no random change is likely to show, at every split.
func TestHTTP2Shapes(t *testing.T) {
	p := StartHTTP2(t)
	for _, s := range shapes() {
		stream := connection(t, func(framer *http2.Framer) error {
			return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: blockOf(t, s.fields)})
		})
		for _, size := range []int{1, 2, 3, 5, 7, 11, 1 << 20} {
			requests, bad := p.Read(t, stream, size)
			if bad != s.bad || bad == "" && len(requests) != 1 {
				t.Errorf("%s, in pieces of %d bytes: %d requests, bad %q; want %q", s.name, size, len(requests), bad, s.bad)
			}
		}
	}
}

// connection is a client's preface, settings, and what write adds.
func connection(t testing.TB, write func(framer *http2.Framer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	if err := errors.Join(framer.WriteSettings(), write(framer)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// blockOf encodes fields of the form "name: value".
func blockOf(t testing.TB, fields []string) []byte {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		at := strings.LastIndex(f, ": ")
		if err := encoder.WriteField(hpack.HeaderField{Name: f[:at], Value: f[at+2:]}); err != nil {
			t.Fatal(err)
		}
	}
	return block.Bytes()
}

// TestHTTP2Frames: frames that a client cannot send, or that would hide a head.
func TestHTTP2Frames(t *testing.T) {
	p := StartHTTP2(t)
	block := blockOf(t, []string{":method: GET", ":scheme: https", ":authority: a.example", ":path: /"})
	cut := blockOf(t, []string{":method: GET", ":scheme: https", ":authority: a.example", ":path: /", "x: 12"})
	cut = cut[:len(cut)-1]
	head := func(stream uint32, end bool) http2.HeadersFrameParam {
		return http2.HeadersFrameParam{StreamID: stream, EndHeaders: end, BlockFragment: block}
	}
	for _, c := range []struct {
		name  string
		write func(f *http2.Framer) error
		n     int
		bad   string
	}{
		{"two requests", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, true)), f.WriteHeaders(head(3, true)))
		}, 2, ""},
		{"a server's stream", func(f *http2.Framer) error { return f.WriteHeaders(head(2, true)) }, 0, "2 0 0"},
		{"stream 0", func(f *http2.Framer) error { return f.WriteHeaders(head(0, true)) }, 0, "2 0 0"},
		{"a second head on a stream", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, true)), f.WriteHeaders(head(1, true)))
		}, 1, "2 0 0"},
		{"a frame amid a head", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, false)), f.WritePing(false, [8]byte{}))
		}, 0, "3 0 0"},
		{"a head that goes on elsewhere", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, false)), f.WriteContinuation(3, true, nil))
		}, 0, "3 0 0"},
		{"a head that goes on with nothing", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, false)), f.WriteContinuation(1, true, nil))
		}, 1, ""},
		{"a continuation of nothing", func(f *http2.Framer) error { return f.WriteContinuation(1, true, block) }, 0, "3 0 0"},
		{"data on no stream", func(f *http2.Framer) error { return f.WriteData(1, true, []byte("GET / HTTP/1.1\r\n\r\n")) }, 0, "2 0 0"},
		{"a promise", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, block)
		}, 0, "2 0 0"},
		{"more padding than bytes", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, append([]byte{200}, block...))
		}, 0, "2 0 0"},
		{"a table larger than it may be", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, append([]byte{0x3f, 0xe2, 0x1f}, block...))
		}, 0, "4 4 0"},
		{"a table of another size, thrice", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, append([]byte{0x20, 0x20, 0x20}, block...))
		}, 0, "4 5 0"},
		{"an entry that is not there", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, []byte{0x80 | 62})
		}, 0, "4 2 0"},
		{"entry 0", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, []byte{0x80})
		}, 0, "4 2 0"},
		{"an integer without end", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, bytes.Repeat([]byte{0xff}, 20))
		}, 0, "4 1 0"},
		{"the end of strings in a string", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, []byte{0x40, 0x84, 0xff, 0xff, 0xff, 0xff})
		}, 0, "4 3 0"},
		{"a byte of padding too much", func(f *http2.Framer) error {
			return f.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, []byte{0x40, 0x82, 0x1f, 0xff})
		}, 0, "4 3 0"},
		{"a cut field", func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: cut})
		}, 0, "4 7 0"},
	} {
		requests, bad := p.Read(t, connection(t, c.write), 1)
		if len(requests) != c.n || bad != c.bad {
			t.Errorf("%s: %d requests, bad %q; want %d, %q", c.name, len(requests), bad, c.n, c.bad)
		}
	}
	for _, c := range []struct{ name, stream string }{
		{"HTTP/1", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"},
		{"no settings", http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"},
	} {
		if _, bad := p.Read(t, []byte(c.stream), 4); bad != "1 0 0" {
			t.Errorf("%s: bad %q", c.name, bad)
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
