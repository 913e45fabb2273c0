package parse

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// Flaw is an enum flaw of bpf/include/abi/flaw.h.
type Flaw int

// The flaws that a parser finds.
const (
	Sound Flaw = iota
	FlawSyntax
	FlawTLS
	FlawHTTP2
	FlawLong
	FlawLineEnd
	FlawFolded
	FlawFraming
	FlawHost
	FlawPath
	FlawTunnel
)

// Request is what was read of a request.
type Request struct {
	Method, Path, Host string
	Query              string
	Lines              []string // headers but Host: the name in lower case, a colon, the value with the blanks behind it
	Body               int      // its length, without what frames it; -1: its end has not come
}

// HTTP1 is the C parser of HTTP/1 requests as a process.
type HTTP1 struct{ program *program }

// StartHTTP1 compiles it and starts it, as Start does.
func StartHTTP1(t testing.TB) *HTTP1 {
	t.Helper()
	return &HTTP1{start(t, "http1.c")}
}

// Read reads what a client sends on a connection: its requests, what the connection ends inside of ("more": nothing, "head",
// "body"), and the flaw that ended the reading. The process splits the bytes at every place and ends when that makes a difference.
func (p *HTTP1) Read(t testing.TB, stream []byte) (requests []Request, inside string, flaw Flaw) {
	t.Helper()
	line := p.program.ask(t, hex.EncodeToString(stream))
	parts := strings.Split(line, ";")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		requests = append(requests, requestOf(t, part))
	}
	if n := strings.LastIndex(last, " b"); n >= 0 { // behind a head whose body has no end yet
		requests = append(requests, requestOf(t, last[:n]+" -1"))
		last = last[n+1:]
	}
	if code, ok := strings.CutPrefix(last, "bad "); ok {
		n, err := strconv.Atoi(code)
		if err != nil {
			t.Fatalf("the parser says %q", line)
		}
		return requests, "", Flaw(n)
	}
	return requests, last, Sound
}

func requestOf(t testing.TB, text string) (r Request) {
	t.Helper()
	fields := strings.Split(text, " ")
	if len(fields) != 6 {
		t.Fatalf("the parser says %q", text)
	}
	decoded := func(s string) string {
		raw, err := hex.DecodeString(s)
		if err != nil {
			t.Fatalf("the parser says %q: %v", text, err)
		}
		return string(raw)
	}
	r.Method, r.Path, r.Host, r.Query = decoded(fields[0]), decoded(fields[1]), decoded(fields[2]), decoded(fields[4])
	for line := range strings.SplitSeq(strings.TrimSuffix(fields[3], ","), ",") {
		if line != "" {
			r.Lines = append(r.Lines, decoded(line))
		}
	}
	if fields[5] == "-1" {
		r.Body = -1
		return r
	}
	n, err := strconv.ParseInt(fields[5], 16, 64)
	if err != nil {
		t.Fatalf("the parser says %q: %v", text, err)
	}
	r.Body = int(n)
	return r
}

// CheckHTTP1 holds the parser against net/http: what it reads, net/http must read too, and nothing else. It says what was seen.
func CheckHTTP1(t testing.TB, p *HTTP1, stream []byte) (string, Flaw) {
	t.Helper()
	requests, inside, flaw := p.Read(t, stream)
	from := bufio.NewReader(bytes.NewReader(stream))
	for i, got := range requests {
		want, err := http.ReadRequest(from)
		if err != nil {
			t.Fatalf("the parser reads request %d, which net/http refuses: %v\n%q\n%+v", i, err, stream, got)
		}
		n, err := io.Copy(io.Discard, want.Body)
		if got.Body == -1 {
			break
		}
		if err != nil {
			t.Fatalf("net/http does not find the end of the body of request %d: %v\n%q\n%+v", i, err, stream, got)
		}
		if diff := differs(got, want, int(n)); diff != "" {
			t.Fatalf("request %d: %s\n%q", i, diff, stream)
		}
	}
	if flaw == Sound && inside == "more" {
		if _, err := http.ReadRequest(from); !errors.Is(err, io.EOF) {
			t.Fatalf("the parser has read all of it, net/http has not: %v\n%q", err, stream)
		}
	}
	return fmt.Sprintf("%d requests", min(len(requests), 2)), flaw
}

// differs says how a request of the parser differs from the oracle's.
func differs(got Request, want *http.Request, body int) string {
	switch {
	case got.Method != want.Method:
		return fmt.Sprintf("the method is %q, not %q", got.Method, want.Method)
	case got.Host != strings.ToLower(want.Host):
		return fmt.Sprintf("the host is %q, not %q", got.Host, want.Host)
	case got.Body != body:
		return fmt.Sprintf("the body has %d bytes, not %d", got.Body, body)
	}
	if path := canonical(want); got.Path != path {
		return fmt.Sprintf("the path is %q, not %q", got.Path, path)
	}
	if _, query, _ := strings.Cut(want.RequestURI, "?"); got.Query != query {
		return fmt.Sprintf("the query is %q, not %q", got.Query, query)
	}
	headers := http.Header{}
	for _, line := range got.Lines {
		name, value, _ := strings.Cut(line, ":")
		headers.Add(name, strings.Trim(value, " \t"))
	}
	for name, values := range want.Header {
		if strings.Join(headers[textproto.CanonicalMIMEHeaderKey(name)], "\n") != strings.Join(values, "\n") {
			return fmt.Sprintf("the header %s is %q, not %q", name, headers[name], values)
		}
	}
	return ""
}

// canonical is the path of a request in the form that is judged.
func canonical(r *http.Request) string {
	if r.RequestURI == "*" {
		return "*"
	}
	var out strings.Builder
	escaped, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, absolute := strings.Cut(escaped, "://"); absolute {
		_, after, _ := strings.Cut(rest, "/")
		escaped = "/" + after
	}
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c != '%' {
			out.WriteByte(c)
			continue
		}
		code := escaped[i : i+3]
		i += 2
		n, _ := strconv.ParseUint(code[1:], 16, 8) // net/http has decoded it
		if b := byte(n); b < 0x80 && strings.IndexByte("-._~", b) >= 0 || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' && b < 0x80 {
			out.WriteByte(b)
		} else {
			out.WriteString(strings.ToUpper(code))
		}
	}
	if decoded, err := url.PathUnescape(out.String()); err != nil || decoded != cmp.Or(r.URL.Path, "/") {
		return "what net/http decodes to " + r.URL.Path
	}
	return out.String()
}
