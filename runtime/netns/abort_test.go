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

// TestAbortEndsOneConnection: none but the one that is meant, and in no other namespace.
func TestAbortEndsOneConnection(t *testing.T) {
	in := testutil.NewNetNS(t)
	pid := inhabitant(t, in)
	var client, server net.Conn
	in.Do(t, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }() // one connection is all
		if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
			return err
		}
		server, err = l.Accept()
		return err
	})
	defer func() { _, _ = client.Close(), server.Close() }() // what is told is asked for before
	c := Connection{Local: addrPort(t, client.LocalAddr()), Remote: addrPort(t, client.RemoteAddr()), Socket: cookie(t, client)}

	if err := Abort(pid, in.Cookie(t)+1, c); !errors.Is(err, ErrElsewhere) {
		t.Errorf("in a namespace that was not meant: %v, want %v", err, ErrElsewhere)
	}
	other := c
	other.Socket++
	if err := Abort(pid, in.Cookie(t), other); err != nil {
		t.Errorf("a socket that is there no more: %v", err)
	}
	if _, err := client.Write([]byte("still there")); err != nil {
		t.Fatalf("the connection was ended, and another was meant: %v", err)
	}
	if err := Abort(pid, in.Cookie(t), c); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	_, _ = client.SetReadDeadline(deadline), server.SetReadDeadline(deadline)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("the client reads %v, want %v", err, unix.ECONNABORTED)
	}
	b := make([]byte, 64)
	_, err := server.Read(b)
	for err == nil {
		_, err = server.Read(b)
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server reads %v, want %v", err, unix.ECONNRESET)
	}
	if err := Abort(pid, in.Cookie(t), c); err != nil {
		t.Errorf("a connection that has ended: %v", err)
	}
}

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

func addrPort(t *testing.T, a net.Addr) netip.AddrPort {
	t.Helper()
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// cookie is the number by which the kernel knows a socket.
func cookie(t *testing.T, conn net.Conn) (number uint64) {
	t.Helper()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("the connection is a %T", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asked error
	err = raw.Control(func(fd uintptr) { number, asked = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) })
	if err := errors.Join(err, asked); err != nil {
		t.Fatal(err)
	}
	return number
}
