package read

import (
	"bytes"
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

// insideArg makes the test binary a server in the pod.
const insideArg = "sallyport-serve"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == insideArg {
		if err := serve(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve sends back what comes on every connection.
func serve() error {
	listener, err := net.Listen("tcp4", ":8081")
	if err != nil {
		return err
	}
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
	server := s.pod.Command(self, insideArg)
	server.Start(t)
	t.Cleanup(func() { _ = server.Process.Kill(); server.Result() }) // it never ends by itself
	const open, closed = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range []struct {
		name   string
		pieces []string
		back   string // the least that comes back; never the end of a denied head
		whole  bool   // all of it comes back
	}{
		{"allowed", []string{open}, open, true},
		{"two in one", []string{open + open}, open + open, true},
		{"split", []string{"GET /op", "en HTTP/1.1\r\nHo", "st: a\r\n\r", "\n"}, open, true},
		{"denied", []string{closed}, "", false},
		{"denied behind allowed", []string{open, closed}, open, false},
		{"denied, split", []string{closed[:20], closed[20:]}, closed[:20], false},
	} {
		conn := s.dial(t)
		var got []byte
		b := make([]byte, 1<<12)
		want := ""
		for _, piece := range c.pieces {
			if _, err := conn.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
			want += piece
			wait := 10 * time.Second
			if !c.whole && len(want) > len(c.back) {
				wait = 700 * time.Millisecond // nothing should come
			}
			for len(got) < len(want) {
				if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(b)
				got = append(got, b[:n]...)
				if err != nil {
					break
				}
			}
		}
		_ = conn.Close() // done with it
		if !bytes.Equal(got, []byte(c.back)) {
			t.Errorf("%s: %q comes back, not %q", c.name, got, c.back)
		}
	}
	e := s.await(t, func(e event.Event) bool { return e.Path == "/closed" && e.Verdict == event.VerdictDeny })
	if e.Call != event.CallPacketIn || e.Method != http.MethodGet || e.Host != "a" {
		t.Errorf("a denied request that came in is told as %+v", e)
	}
}

// dial connects from outside to the server in the pod, as soon as it listens.
func (s *scene) dial(t *testing.T) (conn net.Conn) {
	t.Helper()
	testutil.Eventually(t, "a connection to the server in the pod", func() (err error) {
		s.Server.Do(t, func() error {
			conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(s.PodAddr, 8081).String(), 2*time.Second)
			return nil
		})
		return err
	})
	return conn
}
