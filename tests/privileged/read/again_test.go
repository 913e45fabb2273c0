package read

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// What makes the test binary a server whose TCP takes nothing for a while of what has passed the gate, and one that does not look for a
// while at what its TCP has taken.
const (
	deafArg = "sallyport-deaf"
	lateArg = "sallyport-late"
)

// isDeaf is what it says then.
const isDeaf = "deaf"

// listenDeaf takes so many bytes of one connection, says that it is deaf until a byte comes from standard input, and then sends
// back what comes.
func listenDeaf(addr, first string) error {
	n, err := strconv.Atoi(first)
	if err != nil {
		return err
	}
	conn, err := acceptOne(addr)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(n)); err != nil {
		return err
	}
	none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}} // it is asked behind the gate, and before TCP
	if err := onSocket(conn, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
	}); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, isDeaf); err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	if err := onSocket(conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}); err != nil {
		return err
	}
	return hear(conn)
}

// acceptOne says on standard error that it listens, and takes a connection.
func acceptOne(addr string) (net.Conn, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(os.Stderr, "listens"); err != nil {
		return nil, err
	}
	return listener.Accept()
}

// hear says on standard error that it hears, and sends back what comes.
func hear(conn net.Conn) error {
	if _, err := fmt.Fprintln(os.Stderr, "hears"); err != nil {
		return err
	}
	_, _ = io.Copy(conn, conn) // what was sent back is what counts
	return nil
}

// listenLate sends back on one connection what came, when a byte has come from standard input.
func listenLate(addr string) error {
	conn, err := acceptOne(addr)
	if err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	return hear(conn)
}

// onSocket does something with a connection's socket.
func onSocket(conn net.Conn, do func(fd int) error) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) { done = do(int(fd)) })
	return errors.Join(err, done)
}

// again is what is said to a server that is deaf behind the first of it.
type again struct {
	name  string
	first string
	lost  string // is not taken; it comes again, as
	comes string // of the same length
	more  string // behind it
	back  string // at last
	ends  string
}

// hold says it from the thread's namespace; hear ends the server's deafness.
func (a again) hold(to string, hear func() error) error {
	conn, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // its end is not what counts
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	deaf := make([]byte, len(isDeaf))
	if _, err := io.WriteString(conn, a.first); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, deaf); err != nil || string(deaf) != isDeaf {
		return fmt.Errorf("the server says %q: %w", deaf, err)
	}
	if err := onSocket(conn, a.change); err != nil {
		return err
	}
	if err := hear(); err != nil {
		return err
	}
	c := conversation{Back: a.back, Ends: a.ends}
	if a.more != "" {
		c.Back = a.comes
	}
	if wrong := c.holdOn(conn); wrong != "" || a.more == "" {
		return asError(wrong)
	}
	return asError(conversation{Pieces: []string{a.more}, Back: a.back, Ends: a.ends}.holdOn(conn))
}

func asError(wrong string) error {
	if wrong == "" {
		return nil
	}
	return errors.New(wrong)
}

// change says what is lost out of a file, which is changed when TCP has sent it often enough to be read again: the second may have
// come too early for that.
func (a again) change(socket int) error {
	const sent = 3
	return changed(socket, a.lost, a.comes, func(info *unix.TCPInfo) bool { return info.Total_retrans >= sent-1 })
}

// changed says something out of a file, and makes it something else of the same length when TCP has come so far.
func changed(socket int, was, is string, far func(*unix.TCPInfo) bool) error {
	said, err := unix.MemfdCreate("said", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(said) }() // TCP has its pages
	if _, err := unix.Write(said, []byte(was)); err != nil {
		return err
	}
	offset := int64(0)
	if n, err := unix.Sendfile(socket, said, &offset, len(was)); n != len(was) {
		return fmt.Errorf("%d bytes are sent: %w", n, err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		info, err := unix.GetsockoptTCPInfo(socket, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		if far(info) {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("TCP does not come so far: %+v", info)
		}
	}
	_, err = unix.Pwrite(said, []byte(is), 0)
	return err
}

// agains are said to a server of which /open may be asked.
func agains() []again {
	const http1Open, http1Closed = "GET /open HTTP/1.1\r\nHost: abc\r\n\r\n", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	h := newH2(true)
	first := h.take(firstStream, "GET", "/open")
	good := h.take(secondStream, "GET", "/open")
	h = newH2(true)
	h.take(firstStream, "GET", "/open")
	evil := h.take(secondStream, "GET", "/closed")
	size := max(len(good), len(evil))
	good, evil = padded(good, size), padded(evil, size)
	full := fullTable()
	return []again{
		{name: "HTTP/1", first: http1Open, lost: http1Open, comes: http1Open, more: http1Open, back: http1Open},
		{name: "HTTP/1, another request", first: http1Open, lost: http1Open, comes: http1Closed, ends: reset},
		{name: "HTTP/2", first: first, lost: good, comes: good, back: good},
		{name: "HTTP/2, another request", first: first, lost: good, comes: evil, back: h2Denied(secondStream), ends: ended},
		{name: "HTTP/2 from its first byte on", lost: first, comes: first, more: good, back: good},
		full,
	}
}

// take is what a client says on a stream, and forgets it.
func (h *h2) take(stream uint32, method, path string, more ...string) string {
	block := h.fields(append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", path}, more...)...)
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: true, EndHeaders: true}) // to memory
	said := bytes.Clone(h.Bytes())
	h.Reset()
	return string(said)
}

// padded puts a frame of no meaning behind what is said, that makes it longer than size by a frame's header.
func padded(said string, size int) string {
	const unknown, header = 0xfa, 9
	h := newH2(false)
	_ = h.framer.WriteRawFrame(unknown, 0, 0, make([]byte, size-len(said))) // to memory
	return said + h.String()
}

// fullTable fills HPACK's table, so that the segment that is lost overwrites text in it that it has referred to.
func fullTable() again {
	h := newH2(true)
	first := h.take(firstStream, "GET", "/open", "a", strings.Repeat("a", 1200), "b", strings.Repeat("e", 1200), "c", strings.Repeat("i", 1200))
	lost := h.take(secondStream, "GET", "/open", "d", strings.Repeat("o", 1200))
	more := h.take(secondStream+2, "GET", "/open", "d", strings.Repeat("o", 1200))
	return again{name: "HTTP/2, over the table's text", first: first, lost: lost, comes: lost, more: more, back: more}
}

// sayAgain holds it with a server in the pod.
func (s *scene) sayAgain(t *testing.T, a again) {
	t.Helper()
	hear, end, to := s.serveFor(t, deafArg, fmt.Sprintf(":%d", inPort), strconv.Itoa(len(a.first)))
	defer end()
	if err := s.Server.Try(func() error { return a.hold(to, hear) }); err != nil {
		t.Errorf("%s: %v", a.name, err)
	}
}

// serveFor starts a server in the pod for one connection, and waits until it listens. hear is what it waits for then.
func (s *scene) serveFor(t *testing.T, args ...string) (hear func() error, end func(), to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := s.pod.Command(append([]string{self}, args...)...)
	ears, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	end = func() { _ = server.Process.Kill(); server.Result() } // a denied connection leaves it waiting
	if !lines.Scan() {
		end()
		t.Fatalf("%q does not listen", args)
	}
	return func() error {
		if _, err := ears.Write([]byte{0}); err != nil {
			return err
		}
		if !lines.Scan() { // before it is killed: a reset is not for the deaf
			return errors.New("the server does not hear")
		}
		return nil
	}, end, netip.AddrPortFrom(s.PodAddr, inPort).String()
}

// TestChangedBehindTheGate: what a client on the node says out of memory that it can still write is for the server what was read at the
// gate.
func TestChangedBehindTheGate(t *testing.T) {
	s := newScene(t, "Enforce")
	const open, closed = "GET /open HTTP/1.1\r\nHost: abc\r\n\r\n", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	hear, end, to := s.serveFor(t, lateArg, fmt.Sprintf(":%d", inPort))
	defer end()
	back := make([]byte, len(open))
	s.Server.Do(t, func() error {
		conn, err := net.DialTimeout("tcp", to, patience)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // its end is not what counts
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if err := onSocket(conn, func(fd int) error {
			return changed(fd, open, closed, func(info *unix.TCPInfo) bool { return info.Unacked == 0 })
		}); err != nil {
			return err
		}
		if err := hear(); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, back)
		return err
	})
	if string(back) != open {
		t.Errorf("the server gets %q", back)
	}
}

// TestReadAgain: what TCP did not take at its server is read again, and judged, as if it had not come before: over HTTP/2 by the table
// of before.
func TestReadAgain(t *testing.T) {
	s := newScene(t, "Enforce")
	for _, a := range agains() {
		s.sayAgain(t, a)
		s.awaitEnds(t)
	}
	told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest && e.Verdict == event.VerdictDeny })
	for _, e := range told {
		if e.Method != http.MethodGet || e.Path != "/closed" || e.Flaw != event.FlawNone {
			t.Errorf("a denied request is told as %+v", e)
		}
	}
	if len(told) != 2 {
		t.Errorf("%d denials are told, not 2", len(told))
	}
}
