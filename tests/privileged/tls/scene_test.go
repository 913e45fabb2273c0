// Package tls tests the taps on TLS libraries with the programs that use them: what a program writes before it is
// encrypted is tied to the socket that carries it, and what is denied never reaches the server.
package tls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"structs"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// tlsKey and tlsConn are struct tls_key and struct tls_conn of bpf/include/abi/taps.h.
type tlsKey struct {
	_      structs.HostLayout
	Object uint64
	TGID   uint32
	_      uint32
}

type tlsConn struct {
	_          structs.HostLayout
	Serial     uint64
	Ahead      uint64
	NetNS      uint64
	Local      [16]byte
	Remote     [16]byte
	LocalPort  uint16
	RemotePort uint16
	State      uint32
}

// The values of enum tls_state.
const (
	fresh  = 0
	tied   = 1
	denied = 2
)

// scene is a container, a TLS server behind the node, and taps.
type scene struct {
	*testutil.Net
	kernel *probes.Kernel
	taps   *read.Taps
	box    *pod.Container
	server netip.AddrPort

	mu   sync.Mutex
	seen []string // paths of the requests that reached the server
}

func newScene(t *testing.T, step event.Step) *scene {
	t.Helper()
	node := pod.NewNode(t)
	s := &scene{Net: testutil.NewNet(t, testutil.NetOptions{})}
	s.kernel, _ = attached.Open(t, node, probes.Config{}, []event.Step{step, event.StepReport})
	var err error
	if s.taps, err = read.OpenTaps(s.kernel, "/proc"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.taps.Close() }) // handles only
	ns, err := netns.GetFromPath(s.Pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() }) // read only
	s.box = node.Container(t, "box", ns)
	s.serve(t)
	return s
}

// serve starts the server, which remembers the paths it is asked for.
func (s *scene) serve(t *testing.T) {
	t.Helper()
	var l net.Listener
	s.Server.Do(t, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(s.ServerAddr, 0).String())
		return err
	})
	s.server = l.Addr().(*net.TCPAddr).AddrPort()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, r.URL.Path)
		fmt.Fprint(w, "welcome")
	}))
	_ = srv.Listener.Close() // ours instead
	srv.Listener = l
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

// arrived waits until a request for a path has reached the server.
func (s *scene) arrived(t *testing.T, path string) {
	t.Helper()
	testutil.Eventually(t, "a request for "+path, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Contains(s.seen, path) {
			return fmt.Errorf("the server has seen %q", s.seen)
		}
		return nil
	})
}

// conns lists what is known of the TLS connections of a process.
func (s *scene) conns(t *testing.T, pid int) map[tlsKey]tlsConn {
	t.Helper()
	var (
		key  tlsKey
		conn tlsConn
	)
	out := map[tlsKey]tlsConn{}
	it := s.kernel.Maps().Map("conn_by_object").Iterate()
	for it.Next(&key, &conn) {
		if key.TGID == uint32(pid) {
			out[key] = conn
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// connected is the one TLS connection of a process to the server, all of whose bytes were taken.
func (s *scene) connected(t *testing.T, pid int) (key tlsKey, conn tlsConn) {
	t.Helper()
	testutil.Eventually(t, "a tied connection", func() error {
		conns := s.conns(t, pid)
		for key, conn = range conns {
			remote := netip.AddrPortFrom(netip.AddrFrom16(conn.Remote).Unmap(), conn.RemotePort)
			if len(conns) == 1 && conn.State == tied && remote == s.server && conn.Ahead == 0 && conn.Serial != 0 {
				return nil
			}
		}
		return fmt.Errorf("its connections: %+v", conns)
	})
	return key, conn
}

// deny ends a connection as a denied request does.
func (s *scene) deny(t *testing.T, key tlsKey, conn tlsConn) {
	t.Helper()
	conn.State = denied
	if err := s.kernel.Maps().Map("conn_by_object").Update(&key, &conn, ebpf.UpdateExist); err != nil {
		t.Fatal(err)
	}
}

// talker is a program that sends on a TLS connection what it is given.
type talker struct {
	*pod.Process
	in  io.WriteCloser
	end chan struct{}
}

// start starts a program in the container and waits until it has its libraries.
func (s *scene) start(t *testing.T, args ...string) *talker {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		testutil.Unsupported(t, args[0], err.Error())
	}
	p := &talker{Process: s.box.Command(args...), end: make(chan struct{})}
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	go func() {
		defer close(p.end)
		p.Result()
	}()
	t.Cleanup(func() {
		_ = p.Process.Process.Kill() // it may have ended
		<-p.end
	})
	return p
}

// cover taps the libraries of a program that runs.
func (s *scene) cover(t *testing.T, p *talker, want read.Library) {
	t.Helper()
	testutil.Eventually(t, "its library", func() error {
		files, err := s.taps.Cover(uint32(p.Process.Process.Pid))
		if err != nil {
			return err
		}
		for _, f := range files {
			if f.Library == want {
				return nil
			}
		}
		return errors.New("not mapped yet")
	})
}

// ask sends a request.
func (p *talker) ask(t *testing.T, path string) {
	t.Helper()
	if _, err := io.WriteString(p.in, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Logf("asking for %s: %v", path, err) // its end may have come first
	}
}

// host and port of the server.
func (s *scene) host() string { return s.server.Addr().String() }

func (s *scene) port() string { return s.server.String()[strings.LastIndex(s.server.String(), ":")+1:] }
