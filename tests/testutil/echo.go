package testutil

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// Contact is one connection or datagram that reached an Echo.
type Contact struct {
	Protocol string // "tcp", "udp" or "sctp"
	Local    netip.AddrPort
	Remote   netip.AddrPort
	Data     string // what came, of at most keptData bytes
}

// keptData is how much of what comes an Echo remembers of one contact.
const keptData = 512

// Echo is a set of TCP and UDP servers that send back what they get, and remember every contact, so that a test can
// say that nothing arrived.
type Echo struct {
	mu       sync.Mutex
	contacts []*Contact
	open     map[io.Closer]struct{}
	closed   bool
	running  sync.WaitGroup
}

// NewEcho starts a TCP and a UDP server on each address in a network namespace. They stop at the end of the test.
func NewEcho(t testing.TB, in *NetNS, addresses ...netip.AddrPort) *Echo {
	t.Helper()
	e := &Echo{open: map[io.Closer]struct{}{}}
	t.Cleanup(e.close)
	for _, addr := range addresses {
		var tcp *net.TCPListener
		var udp *net.UDPConn
		in.Do(t, func() error {
			var err error
			if tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr)); err != nil {
				return err
			}
			udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
			return err
		})
		e.run(tcp, func() { e.serveStream(tcp, "tcp") })
		e.run(udp, func() { e.serveUDP(udp, addr) })
	}
	return e
}

// Contacts returns what has arrived since the start or the last Reset, in that order.
func (e *Echo) Contacts() []Contact {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := make([]Contact, len(e.contacts))
	for i, c := range e.contacts {
		seen[i] = *c
	}
	return seen
}

// Reset forgets what has arrived.
func (e *Echo) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.contacts = nil
}

// ExpectNone fails the test if anything has arrived.
func (e *Echo) ExpectNone(t testing.TB) {
	t.Helper()
	for _, c := range e.Contacts() {
		t.Errorf("the server was reached: %s", c)
	}
}

// String says who came from where with what.
func (c Contact) String() string {
	return fmt.Sprintf("%s from %s to %s: %q", c.Protocol, c.Remote, c.Local, c.Data)
}

// run serves with a closer until it is closed.
func (e *Echo) run(with io.Closer, serve func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = with.Close() // too late
		return
	}
	e.open[with] = struct{}{}
	e.running.Go(func() {
		serve()
		_ = with.Close() // served: nothing is left to be lost
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, with)
	})
}

func (e *Echo) close() {
	e.mu.Lock()
	e.closed = true
	for c := range e.open {
		_ = c.Close() // ends its server
	}
	e.mu.Unlock()
	e.running.Wait()
}

func (e *Echo) record(c *Contact) *Contact {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.contacts = append(e.contacts, c)
	return c
}

func (e *Echo) serveStream(l *net.TCPListener, protocol string) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			continue // the peer was gone before it was accepted
		}
		contact := e.record(&Contact{
			Protocol: protocol, Local: addrPort(conn.LocalAddr()), Remote: addrPort(conn.RemoteAddr()),
		})
		e.run(conn, func() { e.echoStream(conn, contact) })
	}
}

func (e *Echo) echoStream(conn *net.TCPConn, contact *Contact) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		e.mu.Lock()
		contact.Data += string(buffer[:min(n, keptData-len(contact.Data))])
		e.mu.Unlock()
		if n > 0 {
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (e *Echo) serveUDP(conn *net.UDPConn, local netip.AddrPort) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			continue // an ICMP error to an earlier answer
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		e.record(&Contact{Protocol: "udp", Local: local, Remote: from, Data: string(buffer[:min(n, keptData)])})
		_, _ = conn.WriteToUDPAddrPort(buffer[:n], from) // who does not hear the answer will say so
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		p := tcp.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
