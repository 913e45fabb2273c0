package victim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
)

// run starts the victim with a line of arguments and returns the line it printed and its exit code.
func run(t *testing.T, program, line string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, strings.Fields(line)...)
	cmd.WaitDelay = 20 * time.Second // for the orphans that hold the output
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running victim %s: %v", line, err)
	}
	if exit != nil && len(exit.Stderr) > 0 {
		t.Logf("victim %s: %s", line, exit.Stderr)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// expect runs an attempt, its line and its exit code included.
func expect(t *testing.T, program, line, want string) {
	t.Helper()
	name := strings.Fields(line[strings.LastIndex(line, "-- ")+3:])[0]
	wantCode := 1
	if want == "ok" {
		wantCode = 0
	}
	if got, code := run(t, program, line); got != name+": "+want+"\n" || code != wantCode {
		t.Errorf("victim %s: printed %q and ended with %d, want %q and %d", line, got, code, name+": "+want, wantCode)
	}
}

// servers are the peers that attempts reach: echoing TCP and UDP, on one port of an address.
type servers struct {
	tcp  net.Listener
	udp  net.PacketConn
	port string
}

// serve starts both, in the network namespace of the calling thread.
func serve(t *testing.T, address string) servers {
	t.Helper()
	tcp, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)
	udp, err := net.ListenPacket("udp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tcp.Close(), udp.Close()); err != nil {
			t.Error(err)
		}
	})
	go func() { // ends when the listener is closed
		for {
			conn, err := tcp.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // else: a connection reset before it was accepted
				go echo(conn)
			}
		}
	}()
	go func() { // ends when the socket is closed
		buffer := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = udp.WriteTo(buffer[:n], from) // the victim may be gone
			}
		}
	}()
	return servers{tcp, udp, port}
}

func echo(conn net.Conn) {
	_, _ = io.Copy(conn, conn) // ends with the victim, often by a reset
	_ = conn.Close()
}

// freePort is a TCP and UDP port of an address on which nothing listens.
func freePort(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestAttemptsReachTheirPeer(t *testing.T) {
	t.Parallel()
	program := Build(t)
	at := serve(t, "127.0.0.1")
	for _, attempt := range []string{
		"connect-tcp A", "connect-tcp A 500", "nonblock-tcp A", "fastopen A", "fastopen-connect A",
		"connect-udp A 2000", "sendto-udp A 2000", "sendmsg-udp A 2000", "sendmmsg-udp A 2000", "udp-unspec A 2000", "sendto-udp A", "udp-gso A", "say-udp A 6869", "say-tcp A 68690a", "say-tcp A 68690a 1",
		"connect-unspec", "connect-unspec A",
		"connect-tcp ::ffff:A", "sendto-udp ::ffff:A 2000", "nonblock-tcp ::ffff:A", // IPv4 over an AF_INET6 socket
		"bind-tcp 127.0.0.1 0", "listen-tcp 127.0.0.1 0", "listen-only", "listen-only 0",
		"socket inet stream", "socket inet dgram udp", "socket 2 1 6", "socket unix seqpacket", "socket netlink raw 0",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			expect(t, program, "-- "+strings.Replace(attempt, "A", "127.0.0.1 "+at.port, 1), "ok")
		})
	}
}

func TestAttemptsSayWhyTheyFailed(t *testing.T) {
	t.Parallel()
	program := Build(t)
	free := "127.0.0.1 " + freePort(t, "127.0.0.1")
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := silent.Close(); err != nil {
			t.Error(err)
		}
	})
	_, silentPort, err := net.SplitHostPort(silent.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	busy := serve(t, "127.0.0.1")
	for attempt, want := range map[string]string{
		"connect-tcp " + free:                               "ECONNREFUSED",
		"connect-tcp ::ffff:" + free:                        "ECONNREFUSED",
		"nonblock-tcp " + free:                              "ECONNREFUSED",
		"fastopen " + free:                                  "ECONNREFUSED",
		"fastopen-connect " + free:                          "ECONNREFUSED",
		"hold-tcp " + free + " 100":                         "ECONNREFUSED",
		"connect-udp " + free + " 500":                      "ECONNREFUSED",
		"sendto-udp 127.0.0.1 " + silentPort + " 50":        "ETIMEDOUT",
		"sendto-udp 127.255.255.255 9":                      "EACCES", // a broadcast needs permission
		"bind-tcp 127.0.0.1 " + busy.port:                   "EADDRINUSE",
		"listen-tcp 127.0.0.1 0 20":                         "ETIMEDOUT",
		"udp-server 127.0.0.1 0 20":                         "ETIMEDOUT",
		"unix-connect /nonexistent":                         "ENOENT",
		"unix-connect @sallyport-victim-test":               "ECONNREFUSED",
		"socket 255 stream":                                 "EAFNOSUPPORT",
		"socket inet stream udp":                            "EPROTONOSUPPORT",
		"loop-tcp " + free + " 3 0":                         "ok=0 eperm=0 other=3",
		"loop-udp 127.255.255.255 9 2 0":                    "ok=0 eperm=0 other=2",
		"sendmmsg-udp 127.255.255.255 9":                    "EACCES",
		"connect-udp 127.255.255.255 9":                     "EACCES",
		"bind-tcp 192.0.2.1 0":                              "EADDRNOTAVAIL",
		"connect-unspec 127.0.0.1 " + silentPort:            "ok",
		"udp-unspec 127.0.0.1 " + silentPort + " 20":        "ETIMEDOUT",
		"connect-udp 127.0.0.1 " + silentPort + " 20":       "ETIMEDOUT",
		"sendmsg-udp ::ffff:127.0.0.1 " + silentPort + " 9": "ETIMEDOUT",
	} {
		t.Run(attempt, func(t *testing.T) {
			t.Parallel()
			expect(t, program, "-- "+attempt, want)
		})
	}
}

func TestWrongLinesAreRefused(t *testing.T) {
	t.Parallel()
	program := Build(t)
	for _, line := range []string{
		"-- ", "--", "-- unknown", "fork", "unknown -- listen-only", "-- connect-tcp 127.0.0.1", "-- connect-tcp 127.0.0.1 65536",
		"-- connect-tcp localhost 1", "-- connect-tcp ::g 1", "-- connect-tcp 127.0.0.1 1 x", "copy", "-- loop-tcp 127.0.0.1 1 0 0",
		"copy /nonexistent/x -- listen-only", "into-cgroup /nonexistent -- listen-only", "sleep x -- listen-only",
		"daemon copy /nonexistent/x -- listen-only", "clone-parent copy /nonexistent/x -- listen-only",
	} {
		if out, code := run(t, program, line); out != "" || code != 125 {
			t.Errorf("victim %s: printed %q and ended with %d, want 125", line, out, code)
		}
	}
}

func TestServersOfTheVictimAnswer(t *testing.T) {
	t.Parallel()
	program := Build(t)
	for server, client := range map[string]string{
		"listen-tcp 127.0.0.1 %s 5000": "hold-tcp 127.0.0.1 %s 250",
		"listen-tcp ::1 %s 5000":       "connect-tcp ::1 %s",
		"udp-server 127.0.0.1 %s 5000": "connect-udp 127.0.0.1 %s 2000",
	} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			port := freePort(t, strings.Fields(server)[1])
			cmd := exec.CommandContext(t.Context(), program, strings.Fields("-- "+strings.Replace(server, "%s", port, 1))...)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stdout strings.Builder
			cmd.Stdout = &stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			note := make([]byte, 100)
			if n, err := stderr.Read(note); err != nil || string(note[:n]) != "victim: bound to port "+port+"\n" {
				t.Errorf("said %q, %v", note[:n], err)
			}
			time.Sleep(50 * time.Millisecond) // bound, but perhaps not yet listening
			line, code := run(t, program, "-- "+strings.Replace(client, "%s", port, 1))
			if code != 0 {
				t.Errorf("client printed %q and ended with %d", line, code)
			}
			if err := cmd.Wait(); err != nil || !strings.HasSuffix(stdout.String(), ": ok\n") {
				t.Errorf("server printed %q: %v", stdout.String(), err)
			}
		})
	}
}

func TestLoopsCount(t *testing.T) {
	t.Parallel()
	program := Build(t)
	at := "127.0.0.1 " + serve(t, "127.0.0.1").port
	for line, want := range map[string]string{
		"-- loop-tcp " + at + " 50 0":        "^loop-tcp: ok=50 eperm=0 other=0\n$",
		"-- loop-udp " + at + " 50 10000":    "^loop-udp: ok=50 eperm=0 other=0\n$",
		"-- loop-tcp " + at + " 0 100":       "^loop-tcp: ok=[1-9][0-9]* eperm=0 other=0\n$",
		"-- hold-tcp " + at + " 350":         "^hold-tcp: ok=[2-4] eperm=0 other=0\n$",
		"fork -- loop-tcp " + at + " 1 1000": "^loop-tcp: ok=1 eperm=0 other=0\n$",
	} {
		if got, code := run(t, program, line); !regexp.MustCompile(want).MatchString(got) || code != 0 {
			t.Errorf("victim %s: printed %q and ended with %d, want %s", line, got, code, want)
		}
	}
}

func TestAsksAreAnswered(t *testing.T) {
	t.Parallel()
	program := Build(t)
	const asks = 70 // more than are sent at once
	var seen atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method+r.URL.Path == "GET/open" {
			seen.Add(1)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	at := strings.Replace(server.Listener.Addr().String(), ":", " ", 1)
	expect(t, program, fmt.Sprintf("-- ask-tcp %s %d /open", at, asks), "ok")
	if n := seen.Load(); n != asks {
		t.Errorf("%d requests came, not %d", n, asks)
	}
}

// TestRingsConnect needs a kernel that has io_uring and lets this user have it.
func TestRingsConnect(t *testing.T) {
	t.Parallel()
	program := Build(t)
	at := "127.0.0.1 " + serve(t, "127.0.0.1").port
	if got, _ := run(t, program, "-- uring-connect "+at); got != "uring-connect: ok\n" {
		testutil.Unsupported(t, "io_uring", strings.TrimSpace(got))
	}
	free := "127.0.0.1 " + freePort(t, "127.0.0.1")
	for _, name := range []string{"uring-connect", "uring-connect-async", "uring-connect-sqpoll"} {
		expect(t, program, "-- "+name+" "+at, "ok")
		expect(t, program, "-- "+name+" ::ffff:"+at, "ok")
		expect(t, program, "-- "+name+" "+free, "ECONNREFUSED")
	}
	expect(t, program, "-- uring-inherited "+at, "ok")
}
