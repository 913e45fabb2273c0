package read

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/calls"
)

// serveHTTP2Arg ADDRESS makes this program a server of HTTP/2 in cleartext that answers with the status in a query.
const serveHTTP2Arg = "sallyport-serve-http2"

// statusServer answers with the status in a query, behind an interim one where that is a teapot's.
func statusServer() *http.Server {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			status = http.StatusBadRequest
		}
		if status == http.StatusTeapot {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("Trailer", "Ship")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "Ship landed") // the client says what it got
		w.Header().Set("Ship", "landed")
	})}
}

// serveHTTP2 is such a server, for as long as the program runs.
func serveHTTP2(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return statusServer().Serve(listener)
}

// asks are the statuses that a client asks for on one connection, those that are in no table twice.
var asks = []int{200, 403, 404, 418, 418, http.StatusPartialContent, 403, 500, 200}

// askForArg METHOD URL makes this program a client that asks for asks, all on one connection.
const askForArg = "sallyport-ask-for"

// askFor asks for them.
func askFor(method, url string) error {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{Protocols: protocols}}
	for _, status := range asks {
		request, err := http.NewRequest(method, fmt.Sprintf("%s?%d", url, status), nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close() // was read
		if err != nil || response.StatusCode != status {
			return fmt.Errorf("asked for %d: %s: %w", status, response.Status, err)
		}
	}
	return nil
}

// answered holds what is told of asks against them.
func (s *scene) answered(t *testing.T, call event.Call) {
	t.Helper()
	for i, status := range asks {
		request, response := s.asked(t, i)
		if response.Status != uint16(status) || response.Call != call || response.Step != event.StepGate || response.Latency <= 0 ||
			response.Latency > time.Minute || response.Remote != request.Remote || response.Local != request.Local || response.Subject != request.Subject {
			t.Errorf("%d: %+v is answered by %+v", status, request, response)
		}
	}
}

// TestResponsesOverHTTP2: a program's answers over HTTP/2 are told with their statuses, those of a client in the pod and those
// of a server there.
func TestResponsesOverHTTP2(t *testing.T) {
	s := newTelling(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inside := s.pod.Command(self, serveHTTP2Arg, fmt.Sprintf(":%d", inPort))
	inside.Start(t)
	t.Cleanup(func() { _ = inside.Process.Kill(); inside.Result() }) // it never ends by itself
	server := statusServer()
	t.Cleanup(func() { _ = server.Close() })
	for i, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		l := s.Server.Listen(t, netip.AddrPortFrom(addr, nginxPort))
		go func() { _ = server.Serve(l) }() // ends with Close
		s.events.Reset()
		url := "http://" + l.Addr().String() + "/v1/request-landing"
		if p := s.pod.Command(self, askForArg, http.MethodPost, url); p.Run(t) != "" || !p.ProcessState.Success() {
			t.Fatal(p.Complaint())
		}
		s.answered(t, event.CallPacketOut)
		if text, code := s.curl(t, "--http2-prior-knowledge", "-XPOST", url+"?404"); code != 0 {
			t.Fatalf("curl ended with %d and %q", code, text)
		}
		if _, response := s.asked(t, len(asks)); response.Status != http.StatusNotFound {
			t.Errorf("curl is answered by %+v", response)
		}

		to := netip.AddrPortFrom([]netip.Addr{s.PodAddr, s.PodAddr6}[i], inPort)
		awaitServer(t, s.Server, to)
		s.events.Reset()
		cmd := exec.Command(self, askForArg, http.MethodGet, "http://"+to.String()+"/open")
		s.Server.Start(t, cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		s.answered(t, event.CallPacketIn)
	}
}

// TestResponsesOfCalls: the answer to a call of gRPC is told once, with the status of HTTP.
func TestResponsesOfCalls(t *testing.T) {
	s := newTelling(t)
	s.inForce(t, fmt.Sprintf(callRules, "Enforce"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, nginxPort))
	calls.Serve(t, l)
	const land = "/ship.v1.Bay/Land"
	p := s.pod.Command(self, callArg, l.Addr().String(), land+","+land)
	if said := p.Run(t); said != land+" OK\n"+land+" OK" {
		t.Fatalf("what came of calls is %q; %s", said, p.Complaint())
	}
	for i := range 2 {
		if request, response := s.asked(t, i); response.Status != http.StatusOK || request.Path != land {
			t.Errorf("%+v is answered by %+v", request, response)
		}
	}
}

// interleaved is what a server says of three requests, and which status each gets. 418 is in no table at first.
func interleaved() (said string, statuses []uint16) {
	h := newH2(false)
	head := func(stream uint32, frames int, all ...string) {
		block := h.fields(all...)
		step := (len(block) + frames - 1) / frames
		_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:step], EndHeaders: frames == 1, PadLength: 3}) // to memory, as all here
		for at := step; at < len(block); at += step {
			_ = h.framer.WriteContinuation(stream, at+step >= len(block), block[at:min(at+step, len(block))])
		}
	}
	_ = h.framer.WriteSettings()
	_ = h.framer.WriteSettingsAck()
	head(thirdStream, 1, ":status", "418", "ship", "landed")
	head(firstStream, 1, ":status", "103", "link", "</a>")
	head(secondStream, 3, ":status", "404", "x-ship", "in port")
	_ = h.framer.WriteData(secondStream, false, bytes.Repeat([]byte{0, 0, 1, 1, 4}, 3))
	head(firstStream, 1, ":status", "418", "ship", "landed")
	head(secondStream, 1, "trailer", "x")
	return h.String(), []uint16{418, 404, 418}
}

// TestResponsesOverHTTP2AtEveryPlace: it does not matter where a segment of a server ends, and whatever the order of the streams.
func TestResponsesOverHTTP2AtEveryPlace(t *testing.T) {
	s := newTelling(t)
	said, statuses := interleaved()
	ask := newH2(true)
	for _, stream := range []uint32{firstStream, secondStream, thirdStream} {
		ask.request(stream, "POST", "/v1/request-landing", 1)
	}
	to := netip.AddrPortFrom(s.ServerAddr, nginxPort)
	s.saysTo(t, to, ask.Len(), func(n int) []string { return []string{said[:n+1], said[n+1:]} })
	all := make([]conversation, len(said)-1)
	for i := range all {
		all[i] = conversation{Name: "three", Pieces: []string{ask.String()}, Back: said}
	}
	const atOnce = 40 // the clients' order is an argument
	for part := range slices.Chunk(all, atOnce) {
		s.hold(t, to.String(), part...)
	}
	testutil.Eventually(t, "all answers", func() error {
		byClient := map[netip.AddrPort][]event.Event{}
		for _, e := range s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse }) {
			byClient[e.Local] = append(byClient[e.Local], e)
		}
		if len(byClient) != len(all) {
			return fmt.Errorf("answers to %d clients of %d are told", len(byClient), len(all))
		}
		for client, told := range byClient {
			slices.SortFunc(told, func(a, b event.Event) int { return cmp.Compare(a.Asked, b.Asked) }) // as their streams
			got := []uint16{}
			for _, e := range told {
				got = append(got, e.Status)
			}
			if !slices.Equal(got, statuses) {
				return fmt.Errorf("%s is answered %v", client, got)
			}
		}
		return nil
	})
}

// saysTo is a server that hears so many bytes and says to its n-th client what pieces are for it.
func (s *scene) saysTo(t *testing.T, at netip.AddrPort, hears int, pieces func(n int) []string) {
	t.Helper()
	l := s.Server.Listen(t, at)
	t.Cleanup(func() { _ = l.Close() }) // it ends serving
	say := func(conn net.Conn, pieces []string) {
		defer conn.Close() // the client says what it got
		if _, err := io.CopyN(io.Discard, conn, int64(hears)); err != nil {
			return
		}
		for _, piece := range pieces {
			_, _ = io.WriteString(conn, piece)
			time.Sleep(2 * time.Millisecond) // that it is a segment of its own
		}
		_, _ = io.Copy(io.Discard, conn) // until the client has gone
	}
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go say(conn, pieces(n))
		}
	}()
}

// withhold has TCP take text for sent: it comes when it is missed.
func withhold(conn net.Conn, text string) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var wrong error
	option := func(fd, name, value int) {
		wrong = errors.Join(wrong, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, name, value))
	}
	err = raw.Control(func(handle uintptr) {
		fd := int(handle)
		option(fd, unix.TCP_REPAIR, 1)
		option(fd, unix.TCP_REPAIR_QUEUE, sendQueue)
		_, e := unix.Write(fd, []byte(text))
		wrong = errors.Join(wrong, e)
		option(fd, unix.TCP_REPAIR, 0)
	})
	return errors.Join(wrong, err)
}

// TestResponsesOfOneThatSpeaksFirst: settings that a server sends while its client does may pass before anybody knows that these
// are HTTP/2, and be counted by TCP after that. What comes behind them is told.
func TestResponsesOfOneThatSpeaksFirst(t *testing.T) {
	s := newTelling(t)
	ask, first, answer := newH2(true), newH2(false), newH2(false)
	ask.request(firstStream, "POST", "/v1/request-landing", 1)
	_ = first.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 8}) // to memory, as all here
	_ = answer.framer.WriteSettingsAck()
	_ = answer.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: firstStream, BlockFragment: answer.fields(":status", "404"), EndHeaders: true})
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, nginxPort))
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close() // the client says what it got
		_, err = io.CopyN(io.Discard, conn, int64(ask.Len()))
		err = errors.Join(err, withhold(conn, first.String()))
		_, said := io.WriteString(conn, answer.String())
		ended <- errors.Join(err, said)
		_, _ = io.Copy(io.Discard, conn) // until the client has gone
	}()
	s.hold(t, l.Addr().String(), conversation{Name: "speaks first", Pieces: []string{ask.String()}, Back: first.String() + answer.String()})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if request, response := s.asked(t, 0); response.Status != http.StatusNotFound {
		t.Errorf("%+v is answered by %+v", request, response)
	}
}

// hostileH2 are texts of a server behind which nothing more of its connection is told.
func hostileH2() []string {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	head := func(block string) string {
		return settings + string([]byte{0, 0, byte(len(block)), 1, 4, 0, 0, 0, 1}) + block
	}
	return []string{
		"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88", // a head comes first
		notFound,
		head("\xbe"),             // no such entry
		head("\x3f\xe2\x1f\x88"), // a larger table
		head("\x08\x03abc"),
		head("\x08\x03999"),
		head("\x08\x042000"),
		head("\x08\x0320"), // its block ends in the middle
		settings + "\x00\x00\x02\x01\x0c\x00\x00\x00\x01\x09\x88",        // more padding than there is
		settings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x88" + settings, // a frame amid a head
	}
}

// TestHostileResponsesOverHTTP2: what is no answer is not told, nor is what comes behind it, and all reaches the client as it was
// said.
func TestHostileResponsesOverHTTP2(t *testing.T) {
	s := newTelling(t)
	ask, answer := newH2(true), newH2(false)
	ask.request(firstStream, "POST", "/v1/request-landing", 1)
	_ = answer.framer.WriteSettings() // to memory, as all here
	_ = answer.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: firstStream, BlockFragment: answer.fields(":status", "404"), EndHeaders: true})
	said := hostileH2()
	for i := range said {
		said[i] += answer.String()
	}
	said = append(said, answer.String())
	to := netip.AddrPortFrom(s.ServerAddr, nginxPort)
	s.saysTo(t, to, ask.Len(), func(n int) []string { return said[n : n+1] })
	for _, text := range said {
		s.hold(t, to.String(), conversation{Name: fmt.Sprintf("%q", text), Pieces: []string{ask.String()}, Back: text})
	}
	// The last one is told, so that what was not told before it will not be.
	request, response := s.asked(t, len(said)-1)
	if response.Status != http.StatusNotFound {
		t.Errorf("%+v is answered by %+v", request, response)
	}
	if told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse }); len(told) != 1 {
		t.Errorf("told are %+v", told)
	}
}
