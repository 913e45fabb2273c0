package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// envCaller makes this test binary a caller: a process that makes the calls it is told on standard
// input and tells how long they took. Its value is a program that does next to nothing.
const envCaller = "SALLYPORT_BENCH_CALLER"

// The calls that a caller can make, each in a loop of its own.
const (
	callUDP      = "udp-connect"               // connect of one UDP socket, always to the same peer
	callUDPOther = "udp-connect-next"          // the same to another port each time
	callSendTo   = "udp-sendto"                // an unconnected send that names its peer
	callTCP      = "tcp-connect-close"         // to a server outside the container
	callTCPBoth  = "tcp-connect-accept-close2" // to itself: both ends are governed
	callSend     = "tcp-send"
	callExec     = "fork-exec-exit"
)

// Where a caller's own server, and the one outside the container, listen on loopback.
const (
	servicePort = 8080
	outsidePort = 8081
)

// callerMain is the caller. It serves itself, so that nothing but its own calls is measured.
func callerMain() int {
	runtime.LockOSThread()
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(server, loopbackAt(servicePort)), unix.Listen(server, 128))
	}
	sink, udpErr := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err = errors.Join(err, udpErr); err == nil {
		err = unix.Bind(sink, loopbackAt(servicePort))
	}
	for err == nil {
		var name string
		var n int
		if _, err := fmt.Scanf("%s %d\n", &name, &n); err != nil {
			return 0 // the test has closed the pipe
		}
		var d time.Duration
		if d, err = measure(name, server, n); err == nil {
			fmt.Fprintf(os.Stdout, "%d\n", d.Nanoseconds())
		}
	}
	fmt.Fprintln(os.Stderr, "caller:", err)
	return 1
}

func loopbackAt(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// measure makes a call n times.
func measure(name string, server, n int) (time.Duration, error) {
	switch name {
	case callUDP, callUDPOther, callSendTo:
		return measureUDP(name, n)
	case callTCP:
		return measureTCP(n)
	case callTCPBoth:
		return measureTCPBoth(server, n)
	case callSend:
		return measureSend(server, n)
	case callExec:
		return measureExec(n)
	}
	return 0, fmt.Errorf("there is no call %q", name)
}

func measureUDP(name string, n int) (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd) // nothing is lost with it
	payload := make([]byte, 64)
	begin := time.Now()
	for i := range n {
		to := loopbackAt(servicePort)
		if name == callUDPOther {
			to.Port += i & 1
		}
		if name == callSendTo {
			err = unix.Sendto(fd, payload, 0, to)
		} else {
			err = unix.Connect(fd, to)
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// connect makes a connection that will end by a reset, so that no port is used up.
func connect(port int) (client int, err error) {
	if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return -1, err
	}
	linger := unix.Linger{Onoff: 1}
	return client, errors.Join(unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &linger), unix.Connect(client, loopbackAt(port)))
}

// connected makes a connection to the caller's own server.
func connected(server int) (client, accepted int, err error) {
	if client, err = connect(servicePort); err != nil {
		return client, -1, err
	}
	accepted, _, err = unix.Accept(server)
	return client, accepted, err
}

func measureTCP(n int) (time.Duration, error) {
	begin := time.Now()
	for range n {
		client, err := connect(outsidePort)
		if err = errors.Join(err, unix.Close(client)); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

func measureTCPBoth(server, n int) (time.Duration, error) {
	begin := time.Now()
	for range n {
		client, accepted, err := connected(server)
		if err = errors.Join(err, unix.Close(client), unix.Close(accepted)); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

func measureSend(server, n int) (time.Duration, error) {
	client, accepted, err := connected(server)
	if err != nil {
		return 0, err
	}
	payload := make([]byte, 64)
	begin := time.Now()
	for range n {
		if _, err = unix.Write(client, payload); err != nil {
			return 0, err
		}
		if _, err = unix.Read(accepted, payload); err != nil {
			return 0, err
		}
	}
	d := time.Since(begin)
	return d, errors.Join(unix.Close(client), unix.Close(accepted))
}

func measureExec(n int) (time.Duration, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close() // it is /dev/null
	program := os.Getenv(envCaller)
	attr := &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	begin := time.Now()
	for range n {
		pid, err := syscall.ForkExec(program, []string{program, "--", "socket", "unix", "stream"}, attr)
		if err != nil {
			return 0, err
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || !status.Exited() || status.ExitStatus() != 0 {
			return 0, fmt.Errorf("%s ended with %v: %w", program, status, err)
		}
	}
	return time.Since(begin), nil
}

// serveOutside lets this process, which is in no container, accept and close in a container's network
// namespace until the test ends.
func serveOutside(t testing.TB, c *pod.Container) {
	t.Helper()
	listening := make(chan net.Listener, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its namespace end with the goroutine
		defer close(listening)
		if err := netns.Set(c.NS); err != nil {
			t.Error("entering the container's network namespace: ", err)
			return
		}
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: outsidePort})
		if err != nil {
			t.Error(err)
			return
		}
		listening <- l
	}()
	l, ok := <-listening
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { _ = l.Close() }) // what ends the goroutine
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // else it was reset before
				_ = conn.Close()
			}
		}
	}()
}

// caller is a process of the test that makes calls.
type caller struct {
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Reader
	end func()
}

// newCaller starts a caller in a container. program does next to nothing.
func newCaller(t testing.TB, c *pod.Container, program string) *caller {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := c.Command(self)
	p.Env = []string{envCaller + "=" + program}
	p.Stdout, p.Stderr = nil, os.Stderr
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	return &caller{in, bufio.NewReader(out), func() {
		_ = in.Close() // what tells the caller to end
		if err := p.Wait(); err != nil {
			t.Errorf("the caller: %v", err)
		}
	}}
}

// batchOf is how many of n calls make one batch. An emulated machine that counts instructions is disturbed
// by its own timers and by whoever else is ready to run, and by nothing else: of many short batches some are
// not, and their figure comes again to one in a hundred.
func batchOf(n int) int {
	if testutil.InVM() {
		return min(n, 10)
	}
	return max(n/8, 1)
}

// call makes a call n times and returns how long one took: in the quickest of some batches, which the
// rest of the machine has disturbed least.
func (c *caller) call(t testing.TB, name string, n int) time.Duration {
	t.Helper()
	size := batchOf(n)
	best := c.batch(t, name, size)
	for range n/size - 1 {
		best = min(best, c.batch(t, name, size))
	}
	return best
}

func (c *caller) batch(t testing.TB, name string, n int) time.Duration {
	t.Helper()
	if _, err := fmt.Fprintf(c.in, "%s %d\n", name, n); err != nil {
		t.Fatal("telling a caller what to call: ", err)
	}
	var total int64
	if _, err := fmt.Fscanf(c.out, "%d\n", &total); err != nil {
		t.Fatalf("reading how long %s took: %v", name, err)
	}
	return time.Duration(total) / time.Duration(n)
}
