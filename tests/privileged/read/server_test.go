package read

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// serve sends back what comes on every connection.
func serve(addr string) error {
	config := net.ListenConfig{KeepAliveConfig: asking}
	listener, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	return serveOn(listener)
}

func serveOn(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(conn, conn) // what was sent back is what counts
			_ = conn.Close()
		}()
	}
}

// TestServer: what comes in is read at the server's socket, also byte by byte, and a denied request never gets to it.
func TestServer(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	const open, closed = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort)
		awaitServer(t, s.Server, to)
		for _, c := range []conversation{
			{Name: "allowed", Pieces: []string{open}, Back: open},
			{Name: "two in one", Pieces: []string{open + open}, Back: open + open},
			{Name: "split", Pieces: []string{"GET /op", "en HTTP/1.1\r\nHo", "st: a\r\n\r", "\n"}, Wait: true, Back: open},
			{Name: "denied", Pieces: []string{closed}, Back: answer, Ends: ended},
			{Name: "denied behind allowed", Pieces: []string{open, closed}, Wait: true, Back: open + answer, Ends: ended},
			{Name: "denied, split", Pieces: []string{closed[:20], closed[20:]}, Wait: true, Back: closed[:20] + answer, Ends: ended},
			{Name: "denied with allowed in one", Pieces: []string{open + closed}, Ends: reset},
		} {
			s.Server.Do(t, func() error {
				if got := c.hold(to.String()); got != "" {
					t.Errorf("%s at %s: %s", c.Name, addr, got)
				}
				return nil
			})
		}
		s.awaitEnds(t)
	}
	e := s.await(t, func(e event.Event) bool { return e.Path == "/closed" && e.Verdict == event.VerdictDeny })
	if e.Call != event.CallPacketIn || e.Method != http.MethodGet || e.Host != "a" {
		t.Errorf("a denied request that came in is told as %+v", e)
	}
}

// serveInside starts a server in the pod that sends back what comes.
func (s *scene) serveInside(t *testing.T, self string, port uint16) {
	t.Helper()
	server := s.pod.Command(self, serveArg, fmt.Sprintf(":%d", port))
	server.Start(t)
	t.Cleanup(func() { _ = server.Process.Kill(); server.Result() }) // it never ends by itself
}

// awaitServer waits until a server listens, as seen from a namespace.
func awaitServer(t *testing.T, from *testutil.NetNS, to netip.AddrPort) {
	t.Helper()
	testutil.Eventually(t, "a connection to a server", func() error {
		return from.Try(func() error {
			conn, err := net.DialTimeout("tcp", to.String(), 2*time.Second)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
}
