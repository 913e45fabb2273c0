package victim

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// inNamespace runs the test's body in a network namespace of its own with lo up, and with ping sockets allowed.
func inNamespace(t *testing.T, body func()) {
	t.Helper()
	testutil.RequireRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)      // also when the body ends by t.FailNow
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		if err := enterNamespace(); err != nil {
			t.Errorf("making a network namespace: %v", err)
			return
		}
		body()
	}()
	<-done
}

func enterNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	// All of these are settings of this namespace. The last two let IPv4 take a frame that was put on lo from outside of
	// the stack, which it would hold for spoofed.
	sysctl := func(name, value string) error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) }
	return errors.Join(
		unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo),
		unix.Close(s),
		sysctl("ping_group_range", "0 2147483647"),
		sysctl("conf/lo/route_localnet", "1"),
		sysctl("conf/lo/accept_local", "1"),
	)
}

func TestAttemptsInANamespace(t *testing.T) {
	inNamespace(t, func() {
		program := Build(t)
		at := map[string]string{"127.0.0.1": serve(t, "127.0.0.1").port, "::1": serve(t, "::1").port}
		for address, port := range at {
			for _, attempt := range []string{
				"connect-tcp AP", "nonblock-tcp AP", "fastopen AP", "fastopen-connect AP", "connect-udp AP 2000", "sendto-udp AP 2000",
				"sendmsg-udp AP 2000", "sendmmsg-udp AP 2000", "bind-tcp A 0", "listen-tcp A 0", "ping A", "ping-raw A", "raw-udp AP",
				"packet lo AP",
			} {
				expect(t, program, "-- "+strings.NewReplacer("AP", address+" "+port, "A", address).Replace(attempt), "ok")
			}
		}
		expect(t, program, "-- socket inet raw icmp", "ok")
		expect(t, program, "-- socket packet raw", "ok")
		expect(t, program, "-- netlink-address lo 192.0.2.7 127.0.0.1 "+at["127.0.0.1"], "ok")
		expect(t, program, "-- netlink-address none0 192.0.2.7 127.0.0.1 9", "ENODEV")
		expect(t, program, "-- ping 192.0.2.1", "ENETUNREACH")
		expect(t, program, "-- packet none0 127.0.0.1 1", "ENODEV")
		expect(t, program, "-- connect-tcp 2001:db8::1 80", "ENETUNREACH")
	})
}

// TestOwnPacketsArrive shows that what raw and packet sockets sent is a datagram that a UDP socket takes.
func TestOwnPacketsArrive(t *testing.T) {
	inNamespace(t, func() {
		program := Build(t)
		for _, address := range []string{"127.0.0.1", "::1"} {
			for _, attempt := range []string{"raw-udp A P", "raw-udp A P A", "packet lo A P", "packet lo A P A 00:00:00:00:00:00"} {
				got := receiveFrom(t, address, func(port string) {
					expect(t, program, "-- "+strings.NewReplacer("A", address, "P", port).Replace(attempt), "ok")
				})
				if got != "sallyport-raw\x00" {
					t.Errorf("%s at %s: received %q", attempt, address, got)
				}
			}
		}
	})
}

// receiveFrom returns the datagram that send makes arrive at a port of the address within two seconds.
func receiveFrom(t *testing.T, address string, send func(port string)) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	send(strconv.Itoa(socket.LocalAddr().(*net.UDPAddr).Port))
	buffer := make([]byte, 100)
	if err := socket.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, _, err := socket.ReadFrom(buffer)
	if err := errors.Join(err, socket.Close()); err != nil {
		t.Errorf("receiving at %s: %v", address, err)
	}
	return string(buffer[:n])
}
