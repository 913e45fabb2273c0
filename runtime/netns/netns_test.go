package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// inhabitant is a process in a namespace.
func inhabitant(t *testing.T, in *testutil.NetNS) uint32 {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in.Start(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return uint32(cmd.Process.Pid)
}

func TestInspectLeavesNothingBehind(t *testing.T) {
	in := testutil.NewNetNS(t)
	pid := inhabitant(t, in)
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	home, err := Cookie()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		found, err := Inspect(pid)
		if err != nil {
			t.Fatal(err)
		}
		if found.Cookie != in.Cookie(t) || found.Inode != in.Inode(t) || found.Cookie == home {
			t.Fatalf("found %+v, want cookie %d and inode %d", found, in.Cookie(t), in.Inode(t))
		}
		if len(found.Links) != 1 || found.Links[0].Name != "lo" ||
			!slices.Contains(found.Links[0].Addresses, netip.MustParsePrefix("127.0.0.1/8")) {
			t.Fatalf("links are %+v, want the loopback", found.Links)
		}
		if now, err := Cookie(); err != nil || now != home {
			t.Fatalf("the caller is in namespace %d now, %v; it was in %d", now, err, home)
		}
	}
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(after) > len(before) {
		t.Errorf("%d descriptors are open, %d were: %v", len(after), len(before), after)
	}
}

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
