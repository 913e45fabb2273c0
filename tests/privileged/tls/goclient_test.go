package tls

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ownProgram is this test's program, which by its arguments is one of several clients with Go's crypto/tls linked in.
const ownProgram = "/proc/self/exe"

// The clients: talkArg ADDRESS sends on one connection what it reads, as openssl s_client does; askArg PROTOCOL WORKERS
// URL... asks for all URLs from a pool of connections, with so many at a time, and prints a line for each.
const (
	talkArg = "sallyport-talk"
	askArg  = "sallyport-ask"
)

// What askArg takes as PROTOCOL.
const (
	overHTTP1 = "HTTP/1.1"
	overHTTP2 = "HTTP/2.0"
)

// failed is what askArg prints where there is no answer.
const failed = "failed"

// insecure trusts the test's server, which nobody has signed for.
func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}

// talk copies the standard input to a TLS connection until either ends.
func talk(address string) error {
	conn, err := tls.Dial("tcp", address, insecure())
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(os.Stdout, conn) }()
	_, err = io.Copy(conn, os.Stdin)
	return err
}

// ask asks for all URLs and prints for each its path, then protocol and body of the answer, or failed; and at last how
// many writes another thread ended than had begun them.
func ask(protocol, workers string, urls []string) error {
	n, err := strconv.Atoi(workers)
	if err != nil {
		return err
	}
	moving := newMover()
	defer moving.end()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: insecure(), DialContext: moving.dial,
		ForceAttemptHTTP2: protocol == overHTTP2, MaxIdleConnsPerHost: n,
	}}
	var (
		done sync.WaitGroup
		out  sync.Mutex
	)
	for i := range n {
		done.Go(func() {
			for j := i; j < len(urls); j += n {
				path, said := fetch(&client, urls[j])
				out.Lock()
				fmt.Println(path, said)
				out.Unlock()
			}
		})
	}
	done.Wait()
	fmt.Println("moved", moving.moves.Load())
	return nil
}

// fetch asks for one URL.
func fetch(client *http.Client, url string) (path, said string) {
	path = url[strings.LastIndex(url, "//")+2:]
	path = path[strings.IndexByte(path, '/'):]
	answer, err := client.Get(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return path, failed
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return path, failed
	}
	return path, answer.Proto + " " + string(body)
}

// mover moves goroutines to other threads between what crypto/tls does and what the kernel gets of it.
type mover struct {
	moves atomic.Int64
	ended atomic.Bool
}

// newMover lets goroutines run that others change places with.
func newMover() *mover {
	const threads = 4
	runtime.GOMAXPROCS(threads)
	m := &mover{}
	for range 2 * threads {
		go func() {
			for !m.ended.Load() {
				runtime.Gosched()
			}
		}()
	}
	return m
}

func (m *mover) end() { m.ended.Store(true) }

func (m *mover) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &movingConn{conn, m}, nil
}

// movingConn writes from another thread than it was called on.
type movingConn struct {
	net.Conn
	mover *mover
}

func (c *movingConn) Write(b []byte) (int, error) {
	const patience = 2 * time.Second
	began, thread := time.Now(), unix.Gettid()
	for unix.Gettid() == thread && time.Since(began) < patience {
		runtime.Gosched()
	}
	if unix.Gettid() != thread {
		c.mover.moves.Add(1)
	}
	return c.Conn.Write(b)
}
