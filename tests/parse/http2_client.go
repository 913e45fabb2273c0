package parse

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Client writes what HTTP/2 clients send: several requests over one connection, in every form that the protocol has.
type Client struct {
	random *rand.Rand
}

// NewClient returns a client whose choices come from seed.
func NewClient(seed uint64) *Client { return &Client{rand.New(rand.NewPCG(seed, 2))} }

func (c *Client) one(of ...string) string { return of[c.random.IntN(len(of))] }

// text is a value of up to n bytes; long ones push entries out of the table.
func (c *Client) text(n int) string {
	const bytes = "abcdefghijklmnopqrstuvwxyz0123456789-._~/?=&%+ ABCXYZ\"{}\x80\xff"
	var b strings.Builder
	for range c.random.IntN(n + 1) {
		b.WriteByte(bytes[c.random.IntN(len(bytes))])
	}
	return strings.TrimSpace(b.String())
}

// fields are those of a request.
func (c *Client) fields() []hpack.HeaderField {
	authority := c.one("deathstar.example", "api.example:8443", "[2001:db8::1]:443")
	fields := []hpack.HeaderField{
		{Name: ":method", Value: c.one("GET", "POST", "PUT", "OPTIONS")},
		{Name: ":scheme", Value: c.one("http", "https")},
		{Name: ":authority", Value: authority},
		{Name: ":path", Value: "/" + c.text(40)},
	}
	c.random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	if c.random.IntN(4) == 0 {
		fields = append(fields, hpack.HeaderField{Name: "host", Value: authority})
	}
	for range c.random.IntN(8) {
		name := c.one("user-agent", "accept", "cookie", "content-type", "x-request-id", "te", fmt.Sprintf("x-%d", c.random.IntN(50)), "x-"+strings.Repeat("long-", 1+c.random.IntN(20)))
		value := c.one("", "1", "curl/8.0", "application/grpc", c.text(30), c.text(2000))
		if name == "te" {
			value = "trailers"
			if count(fields, name) > 0 {
				continue
			}
		}
		fields = append(fields, hpack.HeaderField{Name: name, Value: value, Sensitive: c.random.IntN(5) == 0})
	}
	return fields
}

func count(fields []hpack.HeaderField, name string) int {
	n := 0
	for _, f := range fields {
		if f.Name == name {
			n++
		}
	}
	return n
}

// Stream is a connection with requests requests. What holds for it is what its encoder does: the parser must read all.
func (c *Client) Stream(requests int) []byte {
	all := make([][]hpack.HeaderField, requests)
	for i := range all {
		all[i] = c.fields()
	}
	return c.Say(all...)
}

// Say is a connection with these requests, whose fields are in the order they are given.
func (c *Client) Say(requests ...[]hpack.HeaderField) []byte {
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	encoder := hpack.NewEncoder(&block)
	must(framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	must(framer.WriteWindowUpdate(0, 1<<20))
	for i, fields := range requests {
		stream := uint32(2*i + 1)
		if c.random.IntN(6) == 0 {
			encoder.SetMaxDynamicTableSize(uint32(c.random.IntN(4097)))
		}
		c.head(framer, stream, encode(encoder, &block, fields), false)
		for range c.random.IntN(3) {
			c.between(framer, stream)
		}
		if c.random.IntN(4) == 0 {
			c.head(framer, stream, encode(encoder, &block, []hpack.HeaderField{{Name: "grpc-status", Value: c.text(5)}}), true)
		}
	}
	return out.Bytes()
}

func encode(encoder *hpack.Encoder, block *bytes.Buffer, fields []hpack.HeaderField) []byte {
	block.Reset()
	for _, f := range fields {
		must(encoder.WriteField(f))
	}
	return bytes.Clone(block.Bytes())
}

// head writes a block in one frame or several.
func (c *Client) head(framer *http2.Framer, stream uint32, block []byte, end bool) {
	first := len(block)
	if c.random.IntN(3) == 0 {
		first = c.random.IntN(len(block) + 1)
	}
	param := http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:first], EndStream: end, EndHeaders: first == len(block)}
	if c.random.IntN(4) == 0 {
		param.PadLength = uint8(c.random.IntN(256))
	}
	if c.random.IntN(4) == 0 {
		param.Priority = http2.PriorityParam{StreamDep: 0, Weight: 7}
	}
	must(framer.WriteHeaders(param))
	for rest := block[first:]; !param.EndHeaders; {
		n := c.random.IntN(len(rest) + 1)
		param.EndHeaders = n == len(rest)
		must(framer.WriteContinuation(stream, param.EndHeaders, rest[:n]))
		rest = rest[n:]
	}
}

// between writes a frame that is no head's.
func (c *Client) between(framer *http2.Framer, stream uint32) {
	switch c.random.IntN(6) {
	case 0:
		must(framer.WriteData(stream, false, make([]byte, c.random.IntN(3000))))
	case 1:
		must(framer.WriteDataPadded(stream, false, []byte(http2.ClientPreface), make([]byte, c.random.IntN(200))))
	case 2:
		must(framer.WritePing(false, [8]byte{1}))
	case 3:
		must(framer.WriteWindowUpdate(stream, 5))
	case 4:
		must(framer.WriteRawFrame(0xfa, 0x0c, stream, []byte(c.text(100))))
	case 5:
		must(framer.WriteSettingsAck())
	}
}

// Mutate returns the stream with something changed in it.
func (c *Client) Mutate(stream []byte) []byte {
	changed := bytes.Clone(stream)
	for range 1 + c.random.IntN(3) {
		at := len(http2.ClientPreface) + c.random.IntN(len(changed)-len(http2.ClientPreface))
		switch c.random.IntN(4) {
		case 0:
			changed[at] ^= 1 << c.random.IntN(8)
		case 1:
			changed[at] = byte(c.random.IntN(256))
		case 2:
			changed = append(changed[:at], changed[min(at+1+c.random.IntN(4), len(changed)):]...)
		case 3:
			changed = append(changed[:at], append([]byte{byte(c.random.IntN(256))}, changed[at:]...)...)
		}
		if len(changed) <= len(http2.ClientPreface) {
			break
		}
	}
	return changed
}
