package syslog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// collector is a syslog server over TLS that behaves as told, until it is told to behave well.
type collector struct {
	on      net.Listener
	good    *tls.Config
	serving sync.WaitGroup

	mu       sync.Mutex
	mood     func(*collector, net.Conn) // nil: it behaves
	open     map[net.Conn]bool
	attempts int            // while it did not behave
	got      map[int]string // messages by sequenceId
}

func (c *collector) run() {
	for {
		conn, err := c.on.Accept()
		if err != nil {
			return // the test is over
		}
		c.mu.Lock()
		mood := c.mood
		if mood != nil {
			c.attempts++
		}
		c.open[conn] = true
		c.mu.Unlock()
		c.serving.Go(func() {
			defer func() { _ = conn.Close() }() // what is told of its end is the client's
			if mood != nil {
				mood(c, conn)
				return
			}
			c.read(tls.Server(conn, c.good))
		})
	}
}

// behave changes what becomes of connections that come. Those that are there are not ended: what a server's TCP has confirmed and
// the server has not read would be lost, which no sink of syslog can know.
func (c *collector) behave(mood func(*collector, net.Conn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mood = mood
}

// close ends all connections.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close() // may be over
	}
}

// read takes in messages until the connection ends.
func (c *collector) read(conn net.Conn) {
	from := bufio.NewReader(conn)
	for {
		size, err := from.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(from, message); err != nil {
			return
		}
		c.mu.Lock()
		if _, after, ok := bytes.Cut(message, []byte(`sequenceId="`)); ok {
			number, _, _ := bytes.Cut(after, []byte(`"`))
			if id, err := strconv.Atoi(string(number)); err == nil {
				c.got[id] = string(message)
			}
		}
		c.mu.Unlock()
	}
}

// hello reads what a client begins with.
func hello(conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }

// moods are what a server can do to a client that shakes hands.
func moods(refusing *tls.Config) map[string]func(*collector, net.Conn) {
	return map[string]func(*collector, net.Conn){
		"noise": func(_ *collector, conn net.Conn) {
			hello(conn)
			noise := make([]byte, 4096)
			_, _ = rand.Read(noise)
			_, _ = conn.Write(noise)
			hello(conn) // until the client has had enough
		},
		"noise in records": func(_ *collector, conn net.Conn) {
			hello(conn)
			_, _ = conn.Write(append([]byte{22, 3, 3, 0, 64, 2, 0, 0, 60}, make([]byte, 60)...))
			hello(conn)
		},
		"silence": func(_ *collector, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"closes":  func(_ *collector, conn net.Conn) { hello(conn) },
		"resets": func(_ *collector, conn net.Conn) {
			hello(conn)
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		},
		"refuses the client": func(_ *collector, conn net.Conn) { _ = tls.Server(conn, refusing).Handshake() },
		"noise behind the handshake": func(c *collector, conn net.Conn) {
			server := tls.Server(conn, c.good)
			if server.Handshake() == nil {
				_, _ = conn.Write([]byte("no record of TLS at all"))
				c.read(server)
			}
		},
	}
}

// startCollector starts a server, and returns what a sink needs for it.
func startCollector(t *testing.T) (*collector, Config, *tls.Config) {
	t.Helper()
	ours, theirs := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue(t, "logs.example")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := func(a *authority) *x509.CertPool {
		p := x509.NewCertPool()
		p.AddCert(a.cert)
		return p
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ours)}
	refusing := conf.Clone()
	refusing.ClientCAs = pool(theirs)
	c := &collector{on: listen(t), good: conf, open: map[net.Conn]bool{}, got: map[int]string{}}
	var running sync.WaitGroup
	running.Go(c.run)
	t.Cleanup(func() {
		_ = c.on.Close()
		running.Wait()
		c.close()
		c.serving.Wait()
	})
	clientCert, clientKey := ours.issue(t, "node-1")
	cfg := Config{
		Network: TLS, Address: c.on.Addr().String(), Timeout: 300 * time.Millisecond,
		TLS: TLSConfig{ours.file, clientCert, clientKey, "logs.example"},
	}
	return c, cfg, refusing
}

// TestServerThatIsNoTLS holds that nothing is lost to a server that answers the handshake with noise or not at all, ends it, refuses
// the client, or says noise behind it: records wait, and what does not fit is counted and told, each once.
func TestServerThatIsNoTLS(t *testing.T) {
	t.Parallel()
	const few, queue, many = 200, 250, 1000
	for name := range moods(nil) {
		for _, published := range []int{few, many} {
			t.Run(name+" "+strconv.Itoa(published), func(t *testing.T) {
				t.Parallel()
				c, cfg, refusing := startCollector(t)
				c.behave(moods(refusing)[name])
				out, end := startFanout(t, cfg, queue)
				for range published {
					out.Publish(denied("/bin/sh"))
				}
				await(t, "the server has been asked twice, or got all", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.attempts >= 2 || len(c.got) >= published
				})
				if s := out.Stats()[0]; s.Sent+s.Lost+uint64(s.Queued) != uint64(published) || published == few && s.Lost > 0 {
					t.Errorf("while the server misbehaves: %+v", s)
				}
				c.behave(nil)
				await(t, "all is sent", func() bool { return out.Stats()[0].Queued == 0 })
				end()
				s := out.Stats()[0]
				if s.Sent+s.Lost != uint64(published) {
					t.Errorf("of %d records: %+v", published, s)
				}
				c.check(t, s)
			})
		}
	}
}

// startFanout sends to a sink until end is called, which fails the test if the server has not confirmed all.
func startFanout(t *testing.T, cfg Config, queue int) (*alert.Fanout, func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	out, err := alert.NewFanout(alert.Config{Log: log, Queue: queue, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond}, open(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- out.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return out, end
}

// check compares what has come with what the fan-out says: every message, and of every loss a report.
func (c *collector) check(t *testing.T, s alert.Stats) {
	t.Helper()
	records, last, told := uint64(0), 0, uint64(0)
	await(t, "the server has read all", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		records, told = 0, 0
		for id, message := range c.got {
			last = max(last, id)
			if _, after, ok := strings.Cut(message, ` lost="`); ok {
				number, _, _ := strings.Cut(after, `"`)
				n, err := strconv.ParseUint(number, 10, 64)
				told += n
				if err != nil {
					t.Error(err)
				}
				continue
			}
			records++
		}
		return records >= s.Sent && told >= s.Lost
	})
	if records != s.Sent || told != s.Lost || len(c.got) != last {
		t.Errorf("%d messages have come, the last is %d, of losses %d: %+v", records, last, told, s)
	}
}
