package parse

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// keptName is how much of a name the parser keeps (H2_NAME).
const keptName = 64

// Head is that of a request over HTTP/2, as its fields in order. Of a long name only the beginning is there.
type Head []hpack.HeaderField

// HTTP2 is the C parser of what a client sends over HTTP/2.
type HTTP2 struct {
	*program
}

// StartHTTP2 compiles the parser and starts it, as Start does.
func StartHTTP2(t testing.TB) *HTTP2 {
	t.Helper()
	return &HTTP2{start(t, "http2.c")}
}

// Read parses what a client sends, in pieces of size bytes. bad is empty, or says which error the parser met: its number,
// HPACK's and the head's.
func (p *HTTP2) Read(t testing.TB, stream []byte, size int) (requests []Head, bad string) {
	t.Helper()
	var request Head
	words := strings.Fields(p.ask(t, fmt.Sprintf("%d %x", size, stream)))
	for i, word := range words {
		switch word {
		case "r":
			request = Head{}
		case ".":
			requests = append(requests, request)
		case "ok":
			return requests, ""
		case "bad":
			return requests, strings.Join(words[i+1:], " ")
		default:
			request = append(request, fieldOf(t, word))
		}
	}
	t.Fatalf("the parser says %q", words)
	return nil, ""
}

func fieldOf(t testing.TB, word string) hpack.HeaderField {
	t.Helper()
	name, value, ok := strings.Cut(word, "=")
	n, nameErr := hex.DecodeString(name)
	v, valueErr := hex.DecodeString(value)
	if err := errors.Join(nameErr, valueErr); err != nil || !ok {
		t.Fatalf("the parser says %q: %v", word, err)
	}
	return hpack.HeaderField{Name: string(n), Value: string(v)}
}

// ReferenceHTTP2 reads the same with golang.org/x/net/http2: the requests before the first error, and that error.
// A stream that ends in the middle of something is no error.
func ReferenceHTTP2(stream []byte) ([]Head, error) {
	preface := []byte(http2.ClientPreface)
	if len(stream) <= len(preface) {
		if bytes.HasPrefix(preface, stream) {
			return nil, nil
		}
		return nil, errors.New("no preface")
	}
	if !bytes.HasPrefix(stream, preface) {
		return nil, errors.New("no preface")
	}
	rest := bytes.NewReader(stream[len(preface):])
	framer := http2.NewFramer(io.Discard, rest)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = 1 << 20
	framer.SetMaxReadFrameSize(1<<24 - 1)
	var requests []Head
	newest := uint32(0)
	for {
		frame, err := framer.ReadFrame()
		// The framer says so, too, of a frame that is too short for what its flags promise.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && rest.Len() == 0 {
			return requests, nil
		}
		if err != nil {
			return requests, errors.Join(err, framer.ErrorDetail())
		}
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		if head.Truncated {
			return requests, fmt.Errorf("a head of more than %d bytes", framer.MaxHeaderListSize)
		}
		if head.StreamID > newest {
			newest = head.StreamID
			requests = append(requests, headOf(head.Fields))
		}
	}
}

func headOf(fields []hpack.HeaderField) Head {
	request := Head{}
	for _, f := range fields {
		request = append(request, hpack.HeaderField{Name: f.Name[:min(len(f.Name), keptName)], Value: f.Value})
	}
	return request
}
