package tls

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// sink is a server that takes what comes and says nothing: what a client of raw kTLS has sent, as it was on the wire.
type sink struct {
	at netip.AddrPort

	mu   sync.Mutex
	came map[uint16][]byte // by the client's port
}

func (s *scene) sink(t *testing.T) *sink {
	t.Helper()
	var l net.Listener
	s.Server.Do(t, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(s.ServerAddr, 0).String())
		return err
	})
	k := &sink{at: l.Addr().(*net.TCPAddr).AddrPort(), came: map[uint16][]byte{}}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() }) // it may have ended
			go k.take(conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return k
}

func (k *sink) take(conn net.Conn) {
	port := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Port()
	b := make([]byte, maxRecord)
	for {
		n, err := conn.Read(b)
		k.mu.Lock()
		k.came[port] = append(k.came[port], b[:n]...)
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// from is what has come from a port.
func (k *sink) from(port uint16) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.came[port])
}

// record waits for a record of TLS from a port.
func (k *sink) record(t *testing.T, port uint16) {
	t.Helper()
	testutil.Eventually(t, "a record", func() error {
		b := k.from(port)
		if len(b) < 5 || b[1] != 3 || b[2] != 3 || len(b) < 5+int(b[3])<<8+int(b[4]) {
			return fmt.Errorf("there came %x", b)
		}
		return nil
	})
}

// commanded is a client of raw kTLS in the container.
type commanded struct {
	in  io.Writer
	out *bufio.Scanner
	pid int
}

func (s *scene) commanded(t *testing.T, at netip.AddrPort) *commanded {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := s.box.Command(self, ktlsArg, at.String())
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout = nil
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		p.Result()
	})
	return &commanded{in, bufio.NewScanner(out), p.Process.Pid}
}

// do has a command done, and returns the answer.
func (c *commanded) do(t *testing.T, command string) string {
	t.Helper()
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		t.Fatalf("telling the client to %s: %v", command, err)
	}
	if !c.out.Scan() {
		t.Fatalf("the client does not answer %s: %v", command, c.out.Err())
	}
	return c.out.Text()
}

// must has commands done that succeed.
func (c *commanded) must(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if said := c.do(t, command); said != "ok" {
			t.Fatalf("%s: %s", command, said)
		}
	}
}

// port is the local port of the last connection.
func (c *commanded) port(t *testing.T) uint16 {
	t.Helper()
	port, err := strconv.ParseUint(c.do(t, "port"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}
