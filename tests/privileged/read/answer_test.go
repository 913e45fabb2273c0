package read

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/tests/testutil"
)

// denied is what a client prints that was told 403, answer what it was told.
const (
	denied = "Access denied"
	answer = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 15\r\nConnection: close\r\n\r\n" + denied + "\r\n"
)

// bodyFile is a file of some hundred kilobytes, which do not fit in what is sent before an answer can come.
func bodyFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(name, bytes.Repeat([]byte("PUT /v1/exhaust-port HTTP/1.1\r\n\r\n"), 20000), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// status makes curl print the status of the last answer behind its body.
func status(args ...string) []string { return append([]string{"-w", " %{http_code}"}, args...) }

// TestAnswer: a denied request is answered with 403 at once, by what its client asks and sends, alone and behind an
// allowed one, and the connection ends for client and server.
func TestAnswer(t *testing.T) {
	s := newScene(t, "Enforce")
	body := bodyFile(t)
	for _, url := range []string{at(s.ServerAddr), at(s.ServerAddr6)} {
		land, exhaust := url+"/v1/request-landing", url+"/v1/exhaust-port"
		for _, c := range []struct {
			name string
			args []string
			text string
			seen string
		}{
			{"alone", []string{"-XPUT", exhaust}, denied + "\r\n 403", ""},
			{"GET", []string{exhaust}, denied + "\r\n 403", ""},
			{"HTTP/1.0", []string{"-0", exhaust}, denied + "\r\n 403", ""},
			{"HEAD", []string{"-I", "-o", "/dev/null", exhaust}, "403", ""},
			{"with a body", []string{"-XPUT", "-d", "port=1", exhaust}, denied + "\r\n 403", ""},
			{"with a large body", []string{"-XPUT", "-H", "Expect:", "--data-binary", "@" + body, exhaust}, denied + "\r\n 403", ""},
			{"with a body in chunks", []string{"-XPUT", "-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", "@" + body, exhaust}, denied + "\r\n 403", ""},
			{"asking first", []string{"-XPUT", "-H", "Expect: 100-continue", "--data-binary", "@" + body, exhaust}, denied + "\r\n 403", ""},
			{"to be upgraded", []string{"-H", "Connection: Upgrade", "-H", "Upgrade: websocket", exhaust}, denied + "\r\n 403", ""},
			{"on a connection that was used", status("-XPOST", land, "--next", "-sS", "--max-time", "5", "-w", " %{http_code} %{num_connects}", "-XPUT", exhaust), "Ship landed 200" + denied + "\r\n 403 0", "POST /v1/request-landing"},
			{"not to be found by its path", []string{"--path-as-is", url + "/v1/../x"}, denied + "\r\n 403", ""},
		} {
			args := c.args
			if !strings.Contains(c.name, "connection") {
				args = status(args...)
			}
			text, code := s.curl(t, args...)
			if seen := s.requests(); code != 0 || text != c.text || seen != c.seen {
				t.Errorf("%s at %s: curl ended with %d and %q; the server saw %q", c.name, url, code, text, seen)
			}
		}
		s.awaitEnds(t)
		if text, code := s.curl(t, "-XPOST", land); code != 0 || text != "Ship landed" {
			t.Errorf("an allowed request after denied ones: curl ended with %d and %q", code, text)
		}
		s.requests()
	}
}

// awaitEnds waits until the server has no connection from the pod any more, nor the pod any to the server.
func (s *scene) awaitEnds(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, "the end of all connections", func() error {
		for name, ns := range map[string]*testutil.NetNS{"the server": s.Server, "the pod": s.Pod} {
			var open []string
			if err := ns.Try(func() (err error) {
				open, err = openConnections()
				return err
			}); err != nil {
				return err
			}
			if len(open) > 0 {
				return fmt.Errorf("%s has %q", name, open)
			}
		}
		return nil
	})
}

// openConnections lists the connections of the thread's network namespace that are not over: all but those that listen or
// only wait for late packets.
func openConnections() (open []string, err error) {
	const timeWait, listen = "06", "0A"
	for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			if f := strings.Fields(line); len(f) > 3 && f[3] != timeWait && f[3] != listen {
				open = append(open, line)
			}
		}
	}
	return open, nil
}

// TestAnswerToPool: a client that keeps connections, and sends while it reads, is told too.
func TestAnswerToPool(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		p := s.pod.Command(self, askArg, at(addr))
		if p.Run(t); !p.ProcessState.Success() {
			t.Errorf("at %s: %s", addr, p.Complaint())
		}
		if seen := s.requests(); strings.Contains(seen, "PUT") || strings.Count(seen, "POST") != 20 {
			t.Errorf("the server saw %q", seen)
		}
	}
	s.awaitEnds(t)
}

// TestAnswerInPieces: it does not matter to the answer in how many segments a request leaves; and where the client is
// owed other answers first there is none, and the connection is reset.
func TestAnswerInPieces(t *testing.T) {
	s := newScene(t, "Enforce")
	const (
		land    = "POST /v1/request-landing HTTP/1.1\r\nHost: a\r\n\r\n"
		held    = "POST /v1/request-landing?" + holdQuery + " HTTP/1.1\r\nHost: a\r\n\r\n"
		exhaust = "PUT /v1/exhaust-port HTTP/1.1\r\nHost: a\r\n\r\n"
	)
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		to := netip.AddrPortFrom(addr, port).String()
		s.hold(t, to, cut("denied", exhaust, conversation{Back: answer, Ends: ended})...)
		if seen := s.requests(); seen != "" {
			t.Errorf("of denied requests the server at %s saw %q", addr, seen)
		}
		s.hold(t, to, conversation{Name: "byte by byte", Pieces: strings.Split(exhaust, ""), Back: answer, Ends: ended})
		s.hold(t, to, conversation{Name: "behind one that waits for its answer", Pieces: []string{held, exhaust}, Ends: reset})
		var seen string
		testutil.Eventually(t, "the allowed request and not the denied one", func() error { // the server may look later than the client
			if seen += s.requests(); seen != "POST /v1/request-landing" {
				return fmt.Errorf("the server at %s saw %q", addr, seen)
			}
			return nil
		})
		s.hold(t, to, conversation{Name: "in one with an allowed one", Pieces: []string{land + exhaust}, Ends: reset})
		s.awaitEnds(t)
		if seen := s.requests(); seen != "" {
			t.Errorf("of two requests in one segment the server at %s saw %q", addr, seen)
		}
	}
}

// TestOtherEnds: where the policy says Reset, both ends get one, and where it says Drop, the client waits in vain.
func TestOtherEnds(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	awaitServer(t, s.Server, netip.AddrPortFrom(s.PodAddr, inPort))
	s.swap(t, "Enforce", policy.VerdictReset)
	s.hold(t, netip.AddrPortFrom(s.ServerAddr, port).String(), conversation{Name: "out", Pieces: []string{"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"}, Ends: reset})
	s.Server.Do(t, func() error {
		c := conversation{Name: "in", Pieces: []string{"GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"}, Ends: reset}
		if wrong := c.hold(netip.AddrPortFrom(s.PodAddr, inPort).String()); wrong != "" {
			t.Error("in: ", wrong)
		}
		return nil
	})
	s.awaitEnds(t)
	s.swap(t, "Enforce", policy.VerdictDrop)
	const timedOut = 28 // of curl
	if text, code := s.curl(t, "--max-time", "1", "-XPUT", at(s.ServerAddr)); code != timedOut || text != "" {
		t.Errorf("a dropped request: curl ended with %d and %q", code, text)
	}
	if seen := s.requests(); seen != "" {
		t.Errorf("the server saw %q", seen)
	}
}

// TestPortComesAgain: what was said about a connection says nothing of the next with the same addresses and ports.
func TestPortComesAgain(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	for port, to := range map[string]netip.Addr{"41000": s.ServerAddr, "41002": s.ServerAddr6} {
		for _, c := range [][2]string{{"/v1/exhaust-port", denied}, {"/v1/exhaust-port", denied}, {"/v1/request-landing", "Ship landed"}} {
			text, code := s.curl(t, "--local-port", port, "-XPOST", at(to)+c[0])
			if code != 0 || text != c[1] {
				t.Errorf("%s at %s: curl ended with %d and %q", c[0], to, code, text)
			}
			s.awaitEnds(t)
		}
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{Port: 41001}, Timeout: patience}
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort)
		awaitServer(t, s.Server, to)
		for range 3 {
			c := conversation{Pieces: []string{"GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"}, Back: answer, Ends: ended}
			s.Server.Do(t, func() error {
				conn, err := from.Dial("tcp", to.String())
				if err != nil {
					return err
				}
				if wrong := c.holdOn(conn); wrong != "" {
					t.Errorf("in at %s: %s", to, wrong)
				}
				return conn.Close()
			})
			s.awaitEnds(t)
		}
	}
}

// hold holds conversations with a server from inside the pod, all at a time.
func (s *scene) hold(t *testing.T, to string, all ...conversation) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := s.pod.Command(self, holdArg, to, order(t, all...))
	if wrong := p.Run(t); wrong != "" || !p.ProcessState.Success() {
		t.Errorf("with %s: %s%s", to, wrong, p.Complaint())
	}
}
