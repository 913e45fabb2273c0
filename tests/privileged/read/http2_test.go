package read

import (
	"bytes"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/probes/event"
)

// Streams of a client.
const (
	firstStream  = 1
	secondStream = 3
	thirdStream  = 5
)

// h2 are the bytes of a side of a connection over HTTP/2.
type h2 struct {
	bytes.Buffer
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// newH2 is a client's side up to its first request, or a server's before its first word.
func newH2(client bool) *h2 {
	h := &h2{}
	h.framer, h.encoder = http2.NewFramer(&h.Buffer, nil), hpack.NewEncoder(&h.block)
	if client {
		_, _ = h.WriteString(http2.ClientPreface) // to memory
		_ = h.framer.WriteSettings()
	}
	return h
}

// fields is a block that the other side's table knows of from now on.
func (h *h2) fields(all ...string) []byte {
	h.block.Reset()
	for i := 0; i < len(all); i += 2 {
		_ = h.encoder.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}) // to memory
	}
	return bytes.Clone(h.block.Bytes())
}

// request asks on a stream, in so many frames, and returns how long all is by then.
func (h *h2) request(stream uint32, method, path string, frames int) int {
	block := h.fields(":method", method, ":scheme", "http", ":authority", "a", ":path", path, "user-agent", "ships and nothing else")
	step := (len(block) + frames - 1) / frames
	for i := 0; i < len(block); i += step {
		part, last := block[i:min(i+step, len(block))], i+step >= len(block)
		if i == 0 {
			_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: part, EndStream: true, EndHeaders: last})
		} else {
			_ = h.framer.WriteContinuation(stream, last, part)
		}
	}
	return h.Len()
}

// h2Denied is what a client is told on a stream whose request was denied, RFC 9113, 6.
func h2Denied(stream uint32) string {
	h := newH2(false)
	_ = h.framer.WriteSettings() // this and what follows goes to memory
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte("\x08\x03403"), EndHeaders: true})
	_ = h.framer.WriteData(stream, true, []byte(denied+"\r\n"))
	_ = h.framer.WriteGoAway(stream, http2.ErrCodeNo, nil)
	return h.String()
}

// h2Conversations are said to a server that sends back what comes, of an allowed and a denied request.
func h2Conversations(allowed, refused [2]string) (all []conversation) {
	ask := func(requests ...[2]string) *h2 {
		h := newH2(true)
		for i, r := range requests {
			h.request(firstStream+uint32(i)*2, r[0], r[1], 1)
		}
		return h
	}
	good, bad := ask(allowed).String(), ask(refused).String()
	both := newH2(true)
	begin := both.request(firstStream, allowed[0], allowed[1], 3)
	_ = both.framer.WritePing(false, [8]byte{}) // to memory
	ping := both.Len()
	both.request(secondStream, refused[0], refused[1], 3)
	twice := both.String()
	all = append(all,
		conversation{Name: "allowed", Pieces: []string{good}, Back: good},
		conversation{Name: "allowed, byte by byte", Pieces: strings.Split(good, ""), Back: good},
		conversation{Name: "denied, byte by byte", Pieces: strings.Split(bad, ""), Wait: true, Back: bad[:len(bad)-1] + h2Denied(firstStream), Ends: ended},
		conversation{Name: "denied behind allowed", Pieces: []string{twice[:begin], twice[begin:ping], twice[ping:]}, Wait: true, Back: twice[:ping] + h2Denied(secondStream), Ends: ended},
		conversation{Name: "denied with allowed in one", Pieces: []string{twice}, Back: h2Denied(secondStream), Ends: ended},
		conversation{Name: "no table has that entry", Pieces: []string{good[:len(http2.ClientPreface)+9] + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\xfe"}, Ends: reset},
		conversation{Name: "behind HTTP/1", Pieces: []string{allowed[0] + " " + allowed[1] + " HTTP/1.1\r\nHost: a\r\n\r\n" + good}, Ends: reset},
		conversation{Name: "no settings", Pieces: []string{http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh"}, Ends: reset},
	)
	return all
}

// TestHTTP2: over HTTP/2 in cleartext each request is read, in whatever pieces its frames come, leaving and coming in, and one
// that is denied is answered on its stream; what the gate does not follow is no request.
func TestHTTP2(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	s.serveBack(t, nginxPort)
	out, in := [2]string{"POST", "/v1/request-landing"}, [2]string{"GET", "/open"}
	for i, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		s.hold(t, netip.AddrPortFrom(addr, nginxPort).String(), h2Conversations(out, [2]string{"PUT", "/v1/exhaust-port"})...)
		to := netip.AddrPortFrom([]netip.Addr{s.PodAddr, s.PodAddr6}[i], inPort)
		awaitServer(t, s.Server, to)
		s.Server.Do(t, func() error {
			for _, c := range h2Conversations(in, [2]string{"GET", "/closed"}) {
				if wrong := c.hold(to.String()); wrong != "" {
					t.Errorf("%s at %s: %s", c.Name, to, wrong)
				}
			}
			return nil
		})
		s.awaitEnds(t)
	}
	for _, wanted := range []event.Flaw{event.FlawHPACK, event.FlawSyntax} {
		s.await(t, func(e event.Event) bool { return e.Flaw == wanted && e.Verdict == event.VerdictDeny })
	}
	e := s.await(t, func(e event.Event) bool { return e.Path == "/v1/exhaust-port" })
	if e.Method != http.MethodPut || e.Host != "a" || e.Verdict != event.VerdictDeny || e.Reason != event.ReasonRule || e.Flaw != event.FlawNone {
		t.Errorf("a denied request is told as %+v", e)
	}
}

// TestHTTP2AtEveryPlace: it does not matter where a segment ends, and a head that goes on in the next is told whole.
func TestHTTP2AtEveryPlace(t *testing.T) {
	s := newScene(t, "Enforce")
	s.serveBack(t, nginxPort)
	good, bad := newH2(true), newH2(true)
	good.request(firstStream, "POST", "/v1/request-landing", 2)
	bad.request(firstStream, "PUT", "/v1/exhaust-port", 2)
	var all []conversation
	all = append(all, cut("allowed", good.String(), conversation{Back: good.String()})...)
	for i, c := range cut("denied", bad.String(), conversation{Wait: true, Ends: ended}) {
		c.Back = bad.String()[:i+1] + h2Denied(firstStream)
		all = append(all, c)
	}
	const atOnce = 50 // the clients' order is an argument
	for len(all) > 0 {
		n := min(atOnce, len(all))
		s.hold(t, netip.AddrPortFrom(s.ServerAddr, nginxPort).String(), all[:n]...)
		all = all[n:]
	}
	s.awaitEnds(t)
	told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest })
	if len(told) != bad.Len()-1 {
		t.Errorf("%d denials are told of %d", len(told), bad.Len()-1)
	}
	for _, e := range told {
		if e.Method != http.MethodPut || e.Path != "/v1/exhaust-port" || e.Host != "a" {
			t.Errorf("a denied request is told as %+v", e)
		}
	}
}

// TestHTTP2Programs: what curl and Go's client make of it with Go's server.
func TestHTTP2Programs(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	body := bodyFile(t)
	const notAllSent = 18 // of curl, which shows the answer
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		land, exhaust := at(addr)+"/v1/request-landing", at(addr)+"/v1/exhaust-port"
		for _, c := range []struct {
			name string
			args []string
			text string
			seen string
			code int
		}{
			{"allowed", []string{"-XPOST", land}, "Ship landed 2 200", "POST /v1/request-landing", 0},
			{"with a large body", []string{"--data-binary", "@" + body, land}, "Ship landed 2 200", "POST /v1/request-landing", 0},
			{"denied", []string{"-XPUT", exhaust}, denied + "\r\n 2 403", "", 0},
			{"denied, with a large body", []string{"-XPUT", "--data-binary", "@" + body, exhaust}, denied + "\r\n 2 403", "", notAllSent},
			{"denied, HEAD", []string{"-I", "-o", "/dev/null", exhaust}, " 2 403", "", 0},
		} {
			args := append([]string{"--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"}, c.args...)
			text, code := s.curl(t, args...)
			if seen := s.requests(); code != c.code || strings.TrimSpace(text) != strings.TrimSpace(c.text) || seen != c.seen {
				t.Errorf("%s at %s: curl ended with %d and %q; the server saw %q", c.name, addr, code, text, seen)
			}
		}
		if text, code := s.curl(t, "--http2", "-XPOST", land); code == 0 && text == "Ship landed" || s.requests() != "" {
			t.Errorf("a change to HTTP/2: curl ended with %d and %q", code, text)
		}
		p := s.pod.Command(self, askHTTP2Arg, at(addr))
		if p.Run(t); !p.ProcessState.Success() {
			t.Errorf("Go's client at %s: %s", addr, p.Complaint())
		}
		if seen := s.requests(); strings.Contains(seen, "PUT") || strings.Count(seen, "POST") != 20 {
			t.Errorf("of Go's client the server saw %q", seen)
		}
	}
	s.awaitEnds(t)
}
