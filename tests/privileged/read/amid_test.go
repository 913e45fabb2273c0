package read

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// What makes the test binary a server that does not cease to speak, and a client that asks amid of what it says.
const (
	speakArg = "sallyport-speak"
	amidArg  = "sallyport-amid"
)

// spoken is what such a server says from its first request on, as far as anybody hears it.
var spoken = func() string {
	var b strings.Builder
	for i := range 1 << 16 {
		_, _ = fmt.Fprintf(&b, "%07d\n", i) // to memory
	}
	return b.String()
}()

// speak is that server.
func speak(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return speakOn(listener)
}

// first is how much it says before a request can be denied; pauses in its own request lets it cease then for as long as that takes.
const (
	first  = 400
	pauses = "pauses"
)

func speakOn(listener net.Listener) error {
	const piece = 40 // bytes
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }() // was reset
			asked := make([]byte, 1<<12)
			n, err := conn.Read(asked)
			if err != nil {
				return
			}
			for i := 0; i+piece <= len(spoken); i += piece {
				if _, err := io.WriteString(conn, spoken[i:i+piece]); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond)
				if i+piece == first && strings.Contains(string(asked[:n]), pauses) {
					time.Sleep(50 * time.Millisecond) // and TCP repeats what was not taken after 200
				}
			}
		}()
	}
}

// amid asks what is allowed, and when the answer has begun what is not. It returns what is wrong with what comes then: all that the
// server said, up to anywhere, and behind it that the second is denied.
func amid(addr, allowed, refused string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // its end is not what counts
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, allowed); err != nil {
		return err
	}
	begin := make([]byte, first)
	if _, err := io.ReadFull(conn, begin); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, refused); err != nil {
		return err
	}
	rest, err := io.ReadAll(conn)
	said, told := strings.CutSuffix(string(begin)+string(rest), answer)
	if err != nil || !told || !strings.HasPrefix(spoken, said) {
		return fmt.Errorf("behind %d bytes comes %q: %w", len(said), said[max(0, len(said)-40):], err)
	}
	return nil
}

// amidTimes has many clients do so at a time, each in a namespace that do enters.
func amidTimes(addr, allowed, refused string, do func(func() error) error) error {
	const times = 20
	wrong := make(chan error)
	for range times {
		go func() { wrong <- do(func() error { return amid(addr, allowed, refused) }) }()
	}
	var all error
	for range times {
		all = errors.Join(all, <-wrong)
	}
	return all
}

// TestDeniedAmidAnAnswer: where the server speaks while a later request is denied, 403 stands behind what it has said and
// never inside of it, leaving and coming in, also when that takes long to the client.
func TestDeniedAmidAnAnswer(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const (
		land, exhaust = "POST /v1/request-landing HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /v1/exhaust-port HTTP/1.1\r\nHost: a\r\n\r\n"
		open, closed  = "GET /open HTTP/1.1\r\nHost: abc\r\n\r\n", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	)
	server := s.pod.Command(self, speakArg, fmt.Sprintf(":%d", inPort))
	server.Start(t)
	t.Cleanup(func() { _ = server.Process.Kill(); server.Result() }) // it never ends by itself
	for i, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		to := netip.AddrPortFrom(addr, nginxPort)
		listener := s.Server.Listen(t, to)
		t.Cleanup(func() { _ = listener.Close() })
		go func() { _ = speakOn(listener) }() // ends with Close
		p := s.pod.Command(self, amidArg, to.String(), land, exhaust)
		if p.Run(t); !p.ProcessState.Success() {
			t.Errorf("out to %s: %s", addr, p.Complaint())
		}
		to = netip.AddrPortFrom([]netip.Addr{s.PodAddr, s.PodAddr6}[i], inPort)
		awaitServer(t, s.Server, to)
		if err := amidTimes(to.String(), open, closed, s.Server.Try); err != nil {
			t.Errorf("in at %s: %v", to, err)
		}
	}
	s.slow(t)
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort).String()
		for range 3 {
			if err := s.Server.Try(func() error { return amid(to, strings.Replace(open, "abc", pauses, 1), closed) }); err != nil {
				t.Errorf("in at %s, slowly: %v", to, err)
			}
		}
	}
	s.awaitEnds(t)
}

// slow makes what goes from the node to the clients outside wait: less can go than the servers say.
func (s *scene) slow(t *testing.T) {
	t.Helper()
	const rate, burst, limit = 10000, 2000, 4 << 20 // bytes a second; bytes
	links, err := s.Node.Handle(t).LinkList()
	if err != nil {
		t.Fatal(err)
	}
	s.Node.Do(t, func() error {
		for _, l := range links {
			if _, ok := l.(*netlink.Veth); !ok || l.Attrs().Index == s.Gate.Attrs().Index {
				continue
			}
			if err := netlink.QdiscReplace(&netlink.Tbf{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
				Rate:       rate, Limit: limit, Buffer: netlink.Xmittime(rate, burst),
			}); err != nil {
				return fmt.Errorf("slowing %s down: %w", l.Attrs().Name, err)
			}
		}
		return nil
	})
}
