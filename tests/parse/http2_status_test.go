package parse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// awaitedStreams are those whose answers the parser's program awaits: 1 to 63, of which a server cannot have been asked more
// at a time.
const awaitedStreams = 64

// server makes what a server sends over HTTP/2.
type server struct {
	bytes.Buffer
	rnd     *rand.Rand
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

func newServer(rnd *rand.Rand) *server {
	s := &server{rnd: rnd}
	s.framer, s.encoder = http2.NewFramer(&s.Buffer, nil), hpack.NewEncoder(&s.block)
	_ = s.framer.WriteSettings() // this and all that follows goes to memory
	return s
}

// head sends a block on a stream in frames of any kind and size.
func (s *server) head(stream uint32, block []byte) {
	step := 1 + s.rnd.IntN(len(block)+1)
	part := block[:min(step, len(block))]
	rest := block[len(part):]
	if s.rnd.IntN(8) == 0 {
		_ = s.framer.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, BlockFragment: part, EndHeaders: len(rest) == 0, PadLength: uint8(s.rnd.IntN(20))})
	} else {
		param := http2.HeadersFrameParam{StreamID: stream, BlockFragment: part, EndHeaders: len(rest) == 0, PadLength: uint8(s.rnd.IntN(20))}
		if s.rnd.IntN(3) == 0 {
			param.Priority = http2.PriorityParam{StreamDep: 7, Weight: 3}
		}
		_ = s.framer.WriteHeaders(param)
	}
	for len(rest) > 0 {
		part = rest[:min(step, len(rest))]
		rest = rest[len(part):]
		_ = s.framer.WriteContinuation(stream, len(rest) == 0, part)
	}
}

// literal writes a field that the encoder would write otherwise: its name in full, in the Huffman code or not.
func (s *server) literal(name, value string) {
	s.block.WriteByte([]byte{0x00, 0x10}[s.rnd.IntN(2)])
	for _, text := range []string{name, value} {
		if s.rnd.IntN(2) == 0 {
			s.block.WriteByte(0x80 | byte(hpack.HuffmanEncodeLength(text)))
			s.block.Write(hpack.AppendHuffmanString(nil, text))
		} else {
			s.block.WriteByte(byte(len(text)))
			s.block.WriteString(text)
		}
	}
}

// fields makes a block: a status, unless it is 0, and any others.
func (s *server) fields(status int) []byte {
	s.block.Reset()
	if s.rnd.IntN(10) == 0 {
		s.encoder.SetMaxDynamicTableSize(uint32(s.rnd.IntN(4097)))
	}
	value := fmt.Sprint(status)
	switch {
	case status == 0:
	case s.rnd.IntN(4) == 0:
		_ = s.encoder.WriteField(hpack.HeaderField{Name: "x", Value: "y"}) // a change of the table's size comes first
		s.literal(":status", value)
	default:
		_ = s.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: value, Sensitive: s.rnd.IntN(5) == 0})
	}
	for range s.rnd.IntN(5) {
		name := []string{"server", "content-type", ":stetus", "x-" + strings.Repeat("n", s.rnd.IntN(40)), ":statusx", "set-cookie"}[s.rnd.IntN(6)]
		_ = s.encoder.WriteField(hpack.HeaderField{Name: name, Value: strings.Repeat(string(rune(' '+s.rnd.IntN(90))), s.rnd.IntN(1+s.rnd.IntN(1200)))})
	}
	return bytes.Clone(s.block.Bytes())
}

// stream is what a server sends on any streams.
func (s *server) stream(n int) []byte {
	statuses := []int{200, 200, 204, 206, 304, 400, 404, 500, 403, 418, 418, 103, 100, 503, 0}
	for range n {
		on := uint32(1 + 2*s.rnd.IntN(40))
		s.head(on, s.fields(statuses[s.rnd.IntN(len(statuses))]))
		switch s.rnd.IntN(4) {
		case 0:
			_ = s.framer.WriteDataPadded(on, false, bytes.Repeat([]byte("\x00\x00\x05\x01\x04"), s.rnd.IntN(300)), make([]byte, s.rnd.IntN(9)))
		case 1:
			_ = s.framer.WriteSettingsAck()
		case 2:
			_ = s.framer.WriteWindowUpdate(on, 77)
		}
	}
	return bytes.Clone(s.Bytes())
}

// referenceStatuses reads with golang.org/x/net/http2 which answers are told, before the first error, and whether there is one.
func referenceStatuses(stream []byte) (told []string, err error) {
	rest := bytes.NewReader(stream)
	framer := http2.NewFramer(io.Discard, rest)
	framer.SetMaxReadFrameSize(1<<24 - 1)
	framer.AllowIllegalReads = true // what is read is what counts here
	awaits := map[uint32]bool{}
	for on := uint32(1); on < awaitedStreams; on += 2 {
		awaits[on] = true
	}
	status, on, promise := "", uint32(0), false
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" && status == "" {
			status = f.Value
		}
	})
	for {
		frame, err := framer.ReadFrame()
		// The framer says so, too, of a frame that is too short for what its flags promise.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && rest.Len() == 0 {
			return told, nil
		}
		if err != nil {
			return told, err
		}
		var block []byte
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			block, status, on, promise = f.HeaderBlockFragment(), "", f.StreamID, false
		case *http2.PushPromiseFrame:
			block, status, on, promise = f.HeaderBlockFragment(), "", f.StreamID, true
		case *http2.ContinuationFrame:
			block = f.HeaderBlockFragment()
		default:
			continue
		}
		if _, err := decoder.Write(block); err != nil {
			return told, err
		}
		if !frame.Header().Flags.Has(http2.FlagHeadersEndHeaders) {
			continue
		}
		if err := decoder.Close(); err != nil {
			return told, err
		}
		code, err := strconv.Atoi(status)
		if status != "" && (err != nil || len(status) != 3 || code < 100 || code > 599) {
			return told, fmt.Errorf("a status of %q", status)
		}
		if code >= 200 && !promise && awaits[on] {
			awaits[on] = false
			told = append(told, fmt.Sprintf("%d=%d", on, code))
		}
	}
}

// compareStatuses holds the parser against the oracle on one stream and says what it saw.
func compareStatuses(t testing.TB, p *program, stream []byte, size int) string {
	t.Helper()
	want, err := referenceStatuses(stream)
	got := strings.Fields(p.ask(t, fmt.Sprintf("%d %x", size, stream)))
	end := got[len(got)-1]
	got = got[:len(got)-1]
	both := min(len(got), len(want))
	if strings.Join(got[:both], " ") != strings.Join(want[:both], " ") || end == "ok" && err == nil && len(got) != len(want) {
		t.Fatalf("the parser tells %q (%s), the oracle %q (%v): %x", got, end, want, err, stream)
	}
	switch {
	case end == "ok" && err == nil:
		return "read"
	case end == "ok":
		return "laxer"
	case err == nil:
		return "stricter"
	}
	return "bad"
}

// TestStatusesAsGo: of what a server sends over HTTP/2 the statuses are read as Go reads them, however it comes in pieces, and
// where both read on in what is changed, they read the same.
func TestStatusesAsGo(t *testing.T) {
	p, rnd := start(t, "http2_status.c"), rand.New(rand.NewPCG(3, 4))
	mutate := NewClient(5)
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	seen, told := map[string]int{}, 0
	for i := range rounds {
		stream, size := newServer(rnd).stream(1+i%20), 1+i*i%1000
		if outcome := compareStatuses(t, p, stream, size); outcome != "read" {
			t.Fatalf("a server's stream is not read (%s): %x", outcome, stream)
		}
		all, _ := referenceStatuses(stream) // it was read
		told += len(all)
		seen[compareStatuses(t, p, mutate.Mutate(stream), size)]++
	}
	t.Log(seen, told)
	if seen["bad"] < rounds/50 || seen["read"] < rounds/50 || told < rounds {
		t.Errorf("seen were %v, with %d statuses: the comparison proves little", seen, told)
	}
}

// frame is one of HTTP/2 on stream 1, or on none where it has none.
func frame(kind, flags byte, payload string) string {
	on := byte(0)
	if kind < byte(http2.FrameSettings) || kind == byte(http2.FramePushPromise) || kind == byte(http2.FrameContinuation) {
		on = 1
	}
	return string([]byte{0, 0, byte(len(payload)), kind, flags, 0, 0, 0, on}) + payload
}

// TestStatusesOfVectors: what decides and what no random change is likely to show, at many splits.
func TestStatusesOfVectors(t *testing.T) {
	const data, headers, settings, promise, ping, window, more = 0, 1, 4, 5, 6, 8, 9
	const end, ack = 4, 1
	first, ok := frame(settings, 0, ""), frame(headers, end, "\x88")
	p := start(t, "http2_status.c")
	for _, v := range []struct{ name, said, want string }{
		{"a status of the static table", first + ok, "1=200 ok"},
		{"its server spoke before", frame(settings, ack, "") + ok, "1=200 ok"},
		{"a window first", frame(window, 0, "\x00\x00\x00\x01") + ok, "1=200 ok"},
		{"a ping first", frame(ping, 0, "12345678") + ok, "1=200 ok"},
		{"a head first", ok, "lost"},
		{"data first", frame(data, 0, "") + ok, "lost"},
		{"settings cut", frame(settings, 0, "\x00\x00") + ok, "lost"},
		{"once", first + ok + frame(headers, end, "\x8d"), "1=200 ok"},
		{"behind an interim one", first + frame(headers, end, "\x08\x03103") + frame(headers, end, "\x8d"), "1=404 ok"},
		{"trailers", first + frame(headers, end, "\x00\x01a\x01b") + ok, "1=200 ok"},
		{"of two the first", first + frame(headers, end, "\x8d\x88"), "1=404 ok"},
		{"kept and taken again", first + frame(headers, end, "\x48\x03103") + frame(headers, end, "\xbe") + frame(headers, end, "\x7e\x03418"), "1=418 ok"},
		{"the oldest has left", first + frame(headers, end, "\x48\x03103") + frame(headers, end, "\x3f\x00\xbe"), "lost"},
		{"a table of nothing", first + frame(headers, end, "\x20\x48\x03103") + frame(headers, end, "\xbe"), "lost"},
		{"a table of 48", first + frame(headers, end, "\x3f\x11\x48\x03103\x40\x01a\x01b") + frame(headers, end, "\xbf"), "lost"},
		{"the largest table", first + frame(headers, end, "\x3f\xe1\x1f\x88"), "1=200 ok"},
		{"a larger table", first + frame(headers, end, "\x3f\xe2\x1f\x88"), "lost"},
		{"its name in full", first + frame(headers, end, "\x00\x07:status\x03418"), "1=418 ok"},
		{"a name that begins so", first + frame(headers, end, "\x00\x08:statusx\x03418") + ok, "1=200 ok"},
		{"a promise", first + frame(promise, end, "\x00\x00\x00\x02\x8d") + ok, "1=200 ok"},
		{"a head that goes on", first + frame(headers, 0, "\x08\x03") + frame(more, 0, "") + frame(more, end, "418"), "1=418 ok"},
		{"another frame amid", first + frame(headers, 0, "\x88") + frame(data, 0, ""), "lost"},
		{"goes on without a beginning", first + frame(more, end, "\x88"), "lost"},
		{"more padding than there is", first + frame(headers, end|8, "\x02\x88"), "lost"},
		{"a head cut", first + frame(headers, end, "\x08\x0341"), "lost"},
		{"a number without end", first + frame(headers, end, "\xff\x80\x80\x80\x80\x01"), "lost"},
		{"no entry", first + frame(headers, end, "\x80"), "lost"},
		{"the end of strings", first + frame(headers, end, "\x08\x84\xff\xff\xff\xff"), "lost"},
	} {
		for _, size := range []int{1, 2, 3, 5, 11, 1 << 20} {
			if got := p.ask(t, fmt.Sprintf("%d %x", size, v.said)); got != v.want {
				t.Errorf("%s, in pieces of %d bytes: %q, want %q", v.name, size, got, v.want)
			}
		}
	}
}

// FuzzStatuses looks for what a server says that the parser reads otherwise than Go.
func FuzzStatuses(f *testing.F) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for range 20 {
		f.Add(newServer(rnd).stream(3), 5)
	}
	p := start(f, "http2_status.c")
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 || size > 1<<16 || len(stream) > 1<<16 {
			t.Skip()
		}
		compareStatuses(t, p, stream, size)
	})
}
