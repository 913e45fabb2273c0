package netns

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestAbortEndsBoth: whatever the ends of a connection have said, after Abort nobody waits for the other, and who listens goes on.
func TestAbortEndsBoth(t *testing.T) {
	testutil.RequireRoot(t)
	netNS, err := Cookie()
	check(t, err)
	for name, says := range map[string]func(t *testing.T, client, server *net.TCPConn){
		"both may send":   func(*testing.T, *net.TCPConn, *net.TCPConn) {},
		"one is silent":   func(t *testing.T, client, _ *net.TCPConn) { t.Helper(); check(t, client.CloseWrite()) },
		"the other is":    func(t *testing.T, _, server *net.TCPConn) { t.Helper(); check(t, server.CloseWrite()) },
		"last to be said": lastSaid,
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "[::]:0") // serves IPv4 by sockets of IPv6
			check(t, err)
			defer func() { _ = listener.Close() }() // holds nothing
			port := netip.MustParseAddrPort(listener.Addr().String()).Port()
			client, server := pair(t, listener, port)
			says(t, client, server)
			c := Connection{Local: addrPort(t, client.LocalAddr()), Remote: addrPort(t, client.RemoteAddr()), Socket: cookie(t, client)}
			stranger := c
			stranger.Socket++
			check(t, Abort(uint32(os.Getpid()), netNS, stranger))
			expectOpen(t, server)
			check(t, Abort(uint32(os.Getpid()), netNS, c))
			for end, conn := range map[string]*net.TCPConn{"client": client, "server": server} {
				check(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
					t.Errorf("the %s goes on to wait: %v", end, err)
				}
			}
			check(t, Abort(uint32(os.Getpid()), netNS, c)) // has ended
			pair(t, listener, port)                        // the listener was not taken for an end
		})
	}
}

// lastSaid leaves the client in a state in which it is not reset any more, with a server that waits: its last word is lost.
func lastSaid(t *testing.T, client, server *net.TCPConn) {
	t.Helper()
	check(t, server.CloseWrite())
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	check(t, dropAll(server))
	check(t, client.CloseWrite())
}

// dropAll drops, by a filter of its socket, every packet that comes to an end.
func dropAll(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	return errors.Join(err, failed)
}

func pair(t *testing.T, listener net.Listener, port uint16) (client, server *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	check(t, err)
	t.Cleanup(func() { _ = c.Close() }) // may have ended
	s, err := listener.Accept()
	check(t, err)
	t.Cleanup(func() { _ = s.Close() }) // may have ended
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func expectOpen(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	check(t, err)
	var info *unix.TCPInfo
	check(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	check(t, err)
	const closed = 7 // TCP_CLOSE
	if info.State == closed {
		t.Error("another connection's end has ended this")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
