package read

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// waysArg makes the test binary a client that says something in one of the ways that there are to send.
const waysArg = "sallyport-ways"

// way sends bytes on a connected socket.
type way struct {
	name   string
	send   func(fd int, said []byte) error
	shared bool // the sender can still change what is on its way
}

func ways() []way {
	return append(rings(), []way{
		{"write", func(fd int, said []byte) error { return whole(unix.Write(fd, said))(said) }, false},
		{"writev", func(fd int, said []byte) error {
			return whole(unix.Writev(fd, [][]byte{said[:3], said[3:20], said[20:]}))(said)
		}, false},
		{"MSG_MORE", sendMore, false},
		{"TCP_CORK", sendCorked, false},
		{"sendfile", sendFile, true},
		{"splice", sendSplice, true},
		{"vmsplice", sendVmsplice, true},
		{"MSG_ZEROCOPY", sendZeroCopy, true},
	}...)
}

// whole says whether all of what was said was taken.
func whole(n int, err error) func(said []byte) error {
	return func(said []byte) error {
		if err == nil && n != len(said) {
			return io.ErrShortWrite
		}
		return err
	}
}

func sendMore(fd int, said []byte) error {
	for len(said) > 10 {
		if err := unix.Sendto(fd, said[:10], unix.MSG_MORE, nil); err != nil {
			return err
		}
		said = said[10:]
	}
	return unix.Sendto(fd, said, 0, nil)
}

func sendCorked(fd int, said []byte) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	for i := 0; i < len(said) && err == nil; i++ {
		_, err = unix.Write(fd, said[i:i+1])
	}
	return errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 0))
}

func sendFile(fd int, said []byte) error {
	file, err := unix.MemfdCreate("said", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if err := whole(unix.Write(file, said))(said); err != nil {
		return err
	}
	offset := int64(0)
	return whole(unix.Sendfile(fd, file, &offset, len(said)))(said)
}

// piped fills a pipe, and splices what is in it to the socket.
func piped(fd int, said []byte, fill func(pipe int) (int, error)) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if err := whole(fill(pipe[1]))(said); err != nil {
		return err
	}
	n, err := unix.Splice(pipe[0], nil, fd, nil, len(said), 0)
	return whole(int(n), err)(said)
}

func sendSplice(fd int, said []byte) error {
	return piped(fd, said, func(pipe int) (int, error) { return unix.Write(pipe, said) })
}

func sendVmsplice(fd int, said []byte) error {
	return piped(fd, said, func(pipe int) (int, error) {
		return unix.Vmsplice(pipe, []unix.Iovec{{Base: &said[0], Len: uint64(len(said))}}, 0)
	})
}

func sendZeroCopy(fd int, said []byte) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
		return err
	}
	return unix.Sendto(fd, said, unix.MSG_ZEROCOPY, nil)
}

// sayIn says something to addr in a way, and prints what comes back until the end of the connection.
func sayIn(addr, name, said string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File() // the same connection, as a descriptor that blocks
	if err != nil {
		return err
	}
	for _, w := range ways() {
		if w.name != name {
			continue
		}
		if err := w.send(int(file.Fd()), []byte(said)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	back, err := io.ReadAll(conn)
	if errors.Is(err, unix.ECONNRESET) {
		fmt.Print(reset)
		return nil
	}
	fmt.Print(string(back))
	return err
}

// TestWaysToSend: however a request is sent, an allowed one passes and a denied one never reaches the server; one that lies
// in memory which its sender can still change is denied, whatever it says.
func TestWaysToSend(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rest = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	to := netip.AddrPortFrom(s.ServerAddr, port).String()
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			s.events.Reset()
			p := s.pod.Command(self, waysArg, to, w.name, "PUT /v1/exhaust-port"+rest)
			if got := p.Run(t); got != strings.TrimSpace(answer) {
				t.Errorf("a denied request gets %q: %s", got, p.Complaint())
			}
			p = s.pod.Command(self, waysArg, to, w.name, "POST /v1/request-landing"+rest)
			got, seen := p.Run(t), s.requests()
			if !w.shared {
				if !strings.HasSuffix(got, "Ship landed") || seen != "POST /v1/request-landing" {
					t.Errorf("an allowed request gets %q, and the server has seen %q: %s", got, seen, p.Complaint())
				}
				s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictDeny && e.Path == "/v1/exhaust-port" })
				return
			}
			if got != strings.TrimSpace(answer) || seen != "" {
				t.Errorf("a request that can still be changed gets %q, and the server has seen %q: %s", got, seen, p.Complaint())
			}
			s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictDeny && e.Flaw == event.FlawShared })
		})
	}
}
