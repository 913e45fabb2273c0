package agent

import (
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mood is how a proxy passes on what is said.
type mood int32

const (
	faithful mood = iota
	slow          // each piece a third of a second late
	garbling      // who asks gets noise, and the connection goes on
)

const late = time.Second / 3

// proxy stands before a server's socket. When its mood changes, connections end, so that all there are have it.
type proxy struct {
	socket string
	mood   atomic.Int32
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// newProxy makes one before a server.
func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	p := &proxy{socket: filepath.Join(t.TempDir(), "p.sock"), conns: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", p.socket)
	check(t, err)
	t.Cleanup(func() {
		_ = listener.Close() // what ends accepting
		p.end(true)
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go p.serve(client, server)
		}
	}()
	return p
}

// be changes the mood.
func (p *proxy) be(m mood) {
	p.mood.Store(int32(m))
	p.end(false)
}

// end ends all connections, and if last, those that come, too.
func (p *proxy) end(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || last
	for c := range p.conns {
		_ = c.Close() // its reader ends
	}
	clear(p.conns)
}

// keep notes connections, so that they can be ended; false: they are to end now.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.closed
}

func (p *proxy) serve(client net.Conn, server string) {
	defer func() { _ = client.Close() }() // may have been ended
	m := mood(p.mood.Load())
	if m == garbling {
		if p.keep(client) {
			_, _ = io.CopyN(client, rand.Reader, 64<<10) // until the other end has enough
			_, _ = io.Copy(io.Discard, client)
		}
		return
	}
	up, err := net.Dial("unix", server)
	if err != nil {
		return // as the server's own socket would
	}
	defer func() { _ = up.Close() }()
	if !p.keep(client, up) {
		return
	}
	done := make(chan struct{}, 2)
	go func() { pass(up, client, m); done <- struct{}{} }()
	go func() { pass(client, up, m); done <- struct{}{} }()
	<-done
}

// pass copies what one says to the other, until either ends.
func pass(to, from net.Conn, m mood) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if m == slow {
			time.Sleep(late)
		}
		if _, wrong := to.Write(b[:n]); wrong != nil || err != nil {
			return
		}
	}
}
