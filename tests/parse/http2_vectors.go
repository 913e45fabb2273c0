package parse

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2Vector is what a client sends on a connection of HTTP/2, or what is none, and what is read of it.
type HTTP2Vector struct {
	Name     string
	Stream   []byte
	Requests int
	Bad      string // as HTTP2.Read says it; "": nothing
}

// HTTP2Vectors are heads that are and that are not, frames that a client cannot send or that would hide a head, and other
// beginnings.
func HTTP2Vectors(t testing.TB) (all []HTTP2Vector) {
	t.Helper()
	for _, s := range shapes() {
		stream := connection(t, func(framer *http2.Framer) error {
			return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: blockOf(t, s.fields)})
		})
		requests := 1
		if s.bad != "" {
			requests = 0
		}
		all = append(all, HTTP2Vector{s.name, stream, requests, s.bad})
	}
	all = slices.Concat(all, frames(t))
	return append(all,
		HTTP2Vector{"HTTP/1", []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), 0, "1 0 0"},
		HTTP2Vector{"no settings", []byte(http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"), 0, "1 0 0"})
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

// frames are connections of frames that would hide a head, or that a client cannot send.
func frames(t testing.TB) (all []HTTP2Vector) {
	t.Helper()
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
		{"a preface behind the first", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, true)), f.WriteRawFrame('S', 0, 0x4d0d0a, []byte(http2.ClientPreface)), f.WriteHeaders(head(3, true)))
		}, 2, ""},
		{"a request of HTTP/1 in data", func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(head(1, false)), f.WriteData(1, true, []byte("GET / HTTP/1.1\r\n\r\n")))
		}, 0, "3 0 0"},
	} {
		all = append(all, HTTP2Vector{c.name, connection(t, c.write), c.n, c.bad})
	}
	return all
}
