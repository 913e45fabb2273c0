package testutil

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// SCTP returns nil when the running kernel has SCTP, else why it has not.
func SCTP() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return fmt.Errorf("making an SCTP socket: %w", err)
	}
	return unix.Close(fd)
}

// ServeSCTP adds an SCTP server on each address; its contacts are of the protocol "sctp". An SCTP socket for one peer is
// used as a TCP one is, so the net package can have it.
func (e *Echo) ServeSCTP(t testing.TB, in *NetNS, addresses ...netip.AddrPort) {
	t.Helper()
	for _, addr := range addresses {
		var l *net.TCPListener
		in.Do(t, func() (err error) {
			l, err = listenSCTP(addr)
			return err
		})
		e.run(l, func() { e.serveStream(l, "sctp") })
	}
}

func listenSCTP(addr netip.AddrPort) (l *net.TCPListener, err error) {
	file, err := socketSCTP(addr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // the listener has its own descriptor
	if err := unix.Bind(int(file.Fd()), sockaddr(addr)); err != nil {
		return nil, fmt.Errorf("binding an SCTP socket to %s: %w", addr, err)
	}
	if err := unix.Listen(int(file.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listening on %s over SCTP: %w", addr, err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listening on %s over SCTP: %w", addr, err)
	}
	l, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("an SCTP listener became a %T", listener), listener.Close())
	}
	return l, nil
}

// DialSCTP connects within the namespace of the calling thread; ms limits how long that and each later call may block.
func DialSCTP(addr netip.AddrPort, ms int64) (conn net.Conn, err error) {
	file, err := socketSCTP(addr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // the connection has its own descriptor
	limit := unix.NsecToTimeval(ms * 1e6)
	if err := unix.SetsockoptTimeval(int(file.Fd()), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("limiting the time of an SCTP socket: %w", err)
	}
	if err := unix.Connect(int(file.Fd()), sockaddr(addr)); err != nil {
		return nil, fmt.Errorf("connecting to %s over SCTP: %w", addr, err)
	}
	return net.FileConn(file)
}

// socketSCTP makes a socket for one peer, of the address's family.
func socketSCTP(addr netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, fmt.Errorf("making an SCTP socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "sctp"), nil
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
}
