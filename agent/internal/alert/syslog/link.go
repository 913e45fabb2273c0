package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errPeerClosed says that the server ended the connection.
var errPeerClosed = errors.New("the server closed the connection")

// errRefused says that the server ended the connection before it accepted the client.
var errRefused = errors.New("the server ended the connection behind the handshake")

// probation is how long a server of TLS 1.3 that gives out no tickets may take to refuse the client.
const probation = time.Second

// sendBuffer bounds what can be on its way on one stream, and so what is kept to be sent again.
const sendBuffer = 256 << 10

// link is one connection.
type link struct {
	conn   net.Conn
	raw    *counter      // below TLS
	stream bool          // frames need an octet count
	local  bool          // delivery is synchronous
	gone   chan struct{} // closed when the peer ended a stream; nil without one
}

// dial connects within cfg.Timeout.
func dial(ctx context.Context, cfg Config) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	network := string(cfg.Network)
	switch cfg.Network {
	case Unix:
		network = "unixgram"
	case TLS:
		network = "tcp"
	case UDP, TCP:
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, cfg.Address)
	if err != nil {
		return nil, err
	}
	raw, ok := conn.(rawConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a %T has no descriptor", conn), conn.Close())
	}
	l := &link{
		raw:    &counter{rawConn: raw},
		local:  cfg.Network == Unix,
		stream: cfg.Network == TCP || cfg.Network == TLS,
	}
	l.conn = l.raw
	var accepted ticket
	if cfg.Network == TLS {
		if accepted, err = l.handshake(ctx, cfg); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if l.stream {
		l.watch(cfg.Timeout)
	}
	if accepted != nil {
		if err := l.await(ctx, accepted, min(probation, cfg.Timeout/2)); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// ticket is a cache of TLS sessions that keeps none: its channel is closed when the server gives out the first.
type ticket chan struct{}

// Get finds nothing.
func (ticket) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put is called by the reader of the connection.
func (t ticket) Put(string, *tls.ClientSessionState) {
	select {
	case <-t:
	default:
		close(t)
	}
}

// await waits until the server has accepted the client. With TLS 1.3 the handshake is over for the client before the server has
// looked at its certificate, and what is written then is lost if it refuses: its TCP has confirmed that. A ticket comes behind.
func (l *link) await(ctx context.Context, accepted ticket, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-accepted:
		return nil
	case <-l.gone:
		return errRefused
	case <-timer.C:
		return nil // it gives out none, and has not refused
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handshake returns what tells that the server has accepted the client.
func (l *link) handshake(ctx context.Context, cfg Config) (ticket, error) {
	conf, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	accepted := make(ticket)
	conf.ClientSessionCache = accepted
	client := tls.Client(l.raw, conf)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shaking hands: %w", err)
	}
	l.conn = client
	if client.ConnectionState().Version < tls.VersionTLS13 || len(conf.Certificates) == 0 {
		accepted.Put("", nil) // there is nothing to wait for
	}
	return accepted, nil
}

// watch bounds what the kernel keeps, makes it give up on a peer that confirms nothing, and reads
// the stream to see its end: a server has nothing to say (RFC 5425, section 4.3), and what it
// says is thrown away. The reader ends with close.
func (l *link) watch(timeout time.Duration) {
	if tcp, ok := l.raw.rawConn.(*net.TCPConn); ok {
		// Both are limits on top of what works without them, so an error changes nothing.
		_ = tcp.SetWriteBuffer(sendBuffer)
		_ = l.raw.control(func(fd int) error {
			const giveUpAfter = 4 // times the write timeout: a short break of the network is not the end
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(giveUpAfter*timeout/time.Millisecond))
		})
	}
	l.gone = make(chan struct{})
	go func() {
		defer close(l.gone)
		_, _ = io.Copy(io.Discard, l.conn) // how it ended does not matter: it ended
	}()
}

// broken tells that the peer is known to be gone.
func (l *link) broken() error {
	if l.stream {
		select {
		case <-l.gone:
			return errPeerClosed
		default:
			return nil
		}
	}
	if l.local {
		return nil
	}
	// UDP: an ICMP error for the last datagram.
	return l.raw.control(func(fd int) error {
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return fmt.Errorf("reading the socket's error: %w", err)
		}
		if code != 0 {
			return syscall.Errno(code)
		}
		return nil
	})
}

// write writes one frame, within timeout and until ctx is done.
func (l *link) write(ctx context.Context, frame []byte, timeout time.Duration) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("setting the deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		// An error means that the connection is closed, which ends the write as well.
		_ = l.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	defer stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := l.conn.Write(frame)
	return err
}

// written is the number of bytes handed to the kernel.
func (l *link) written() uint64 { return l.raw.count.Load() }

// confirmed is how many of them have arrived, as far as can be known: for a stream what the peer's
// TCP has acknowledged, for datagrams all but what an error came back for, which broken told.
func (l *link) confirmed() uint64 {
	if !l.stream {
		return l.written()
	}
	total, waiting := l.written(), 0
	err := l.raw.control(func(fd int) (err error) {
		waiting, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		if err != nil {
			return fmt.Errorf("reading the send queue: %w", err)
		}
		return nil
	})
	if err != nil || waiting < 0 {
		return 0 // nothing is known to have arrived: rather twice than never
	}
	return total - min(total, uint64(waiting))
}

// close ends the connection and the reader. Errors do not matter: all that is known of what
// arrived was read before.
func (l *link) close() {
	_ = l.conn.Close()
	if l.gone != nil {
		<-l.gone
	}
}

// rawConn is a connection with a descriptor: *net.TCPConn, *net.UDPConn, *net.UnixConn.
type rawConn interface {
	net.Conn
	syscall.Conn
}

// counter counts what is written to a connection.
type counter struct {
	rawConn
	count atomic.Uint64
}

// Write passes on to the connection.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.rawConn.Write(p)
	c.count.Add(uint64(max(n, 0)))
	return n, err
}

func (c *counter) control(do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("reaching the socket: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}
