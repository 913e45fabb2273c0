// Package tls tests the taps on TLS libraries with the programs that use them: what a program writes before it is
// encrypted is tied to the socket that carries it, and what is denied never reaches the server.
package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"structs"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// rules lets the processes of box do with the server what %[3]s says of its port, in mode %[1]s.
const rules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: box, namespace: default}
spec:
  podSelector: {}
  mode: %[1]s
  rules:
  - name: api
    egress:
    - toCIDR: ["%[2]s/32"]
      toPorts: [{ports: [{port: "1", endPort: 65535, protocol: TCP}]%[3]s}]
`

// What is said of the port.
const (
	asked = `, rules: {http: [{method: "GET|POST", path: "/allowed/.*"}]}`
	plain = ""
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
	_          [40]byte
	Request    struct {
		_    structs.HostLayout
		_    [7]uint64
		Head uint16 // bytes of the head being read
		_    [46]byte
	}
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
	judge  *judge.Judge
	taps   *read.Taps
	box    *pod.Container
	server netip.AddrPort
	pins   string // where the kernel side has its maps

	mu     sync.Mutex
	seen   []string // paths of the requests that reached the server
	events *attached.Recorder
}

func newScene(t *testing.T, step event.Step) *scene {
	t.Helper()
	return newSceneOf(t, step, probes.Config{})
}

// newSceneOf is a scene with a kernel side of this configuration.
func newSceneOf(t *testing.T, step event.Step, cfg probes.Config) *scene {
	t.Helper()
	node := pod.NewNode(t)
	s := &scene{Net: testutil.NewNet(t, testutil.NetOptions{})}
	s.kernel, s.judge = attached.Open(t, node, cfg, []event.Step{step, event.StepReport})
	s.pins = filepath.Join(node.BPFFS, "sallyport")
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
	s.govern(t)
	s.serve(t)
	s.events = attached.Record(t, s.kernel)
	return s
}

// govern gates the pod's veth.
func (s *scene) govern(t *testing.T) {
	t.Helper()
	g, err := gate.Attach(s.kernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() }) // handles only
	veth := gate.Veth{Ifindex: uint32(s.Gate.Attrs().Index), NetNS: s.Pod.Cookie(t), Container: s.box.ID}
	s.Node.Do(t, func() error { return g.Govern(veth) })
}

// swap puts a policy for the server in force: mode, and what is said of its port.
func (s *scene) swap(t *testing.T, mode, ports string) {
	t.Helper()
	policies, err := policy.Parse("tls", fmt.Appendf(nil, rules, mode, s.ServerAddr, ports))
	if err != nil {
		t.Fatal(err)
	}
	attached.InForce(t, s.judge, compile.Enforced{}, compile.Input{Policies: policies, Workloads: []compile.Workload{
		{Key: s.box.ID, Namespace: "default", Pod: "pod", Container: "c", ContainerType: "App"},
	}})
}

// told waits until a tap has told a verdict about a process.
func (s *scene) told(t *testing.T, pid int, want event.Verdict, why event.Reason) {
	t.Helper()
	testutil.Eventually(t, "what the tap tells", func() error {
		about := s.events.Find(func(e event.Event) bool { return e.Subject.PID == uint32(pid) })
		for _, e := range about {
			if e.Step == event.StepTap && e.Verdict == want && e.Reason == why && e.Remote == s.server && e.Rule != 0 {
				return nil
			}
		}
		return fmt.Errorf("of process %d it was told: %+v", pid, about)
	})
}

// serve starts the server, which remembers the paths it is asked for.
func (s *scene) serve(t *testing.T) {
	t.Helper()
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, 0))
	s.server = l.Addr().(*net.TCPAddr).AddrPort()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.end(r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, r.URL.Path)
		if status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, statusPath)); err == nil {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(status)
			_, _ = w.Write(make([]byte, 100_000)) // more than a record; who asked says what came
		}
		fmt.Fprint(w, said(r.URL.Path))
	}))
	_ = srv.Listener.Close() // ours instead
	srv.Listener = l
	srv.Config.ErrorLog = nil
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{loadedPair(t)}} // its own has RSA, by which a handshake takes long in a guest
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

// whole is what the server remembers of a request with a body when all of it has come.
func whole(path string) string { return "all of " + path }

// end reads the body of a request.
func (s *scene) end(r *http.Request) {
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 {
		return // nothing, or not all of it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, whole(r.URL.Path))
}

// has says whether a request for a path has reached the server.
func (s *scene) has(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.seen, path)
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

// connected is the one TLS connection of a process to the server, all of whose bytes were taken; Go does not say so.
func (s *scene) connected(t *testing.T, p program, pid int) (key tlsKey, conn tlsConn) {
	t.Helper()
	testutil.Eventually(t, "a tied connection", func() error {
		conns := s.conns(t, pid)
		for key, conn = range conns {
			remote := netip.AddrPortFrom(netip.AddrFrom16(conn.Remote).Unmap(), conn.RemotePort)
			if len(conns) == 1 && conn.State == tied && remote == s.server && (conn.Ahead == 0 || p.library == read.Go) && conn.Serial != 0 {
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
		if err := s.taps.Cover(s.box.ID, uint32(p.Process.Process.Pid)); err != nil {
			return err
		}
		for _, f := range s.taps.Files(s.box.ID) {
			if f.Library == want {
				return nil
			}
		}
		select {
		case <-p.end:
			t.Fatalf("%v has ended before its library was found: %s", p.Args, p.Complaint())
		default:
		}
		return errors.New("not mapped yet")
	})
}

// ended waits until the program has ended.
func (p *talker) ended(t *testing.T) {
	t.Helper()
	select {
	case <-p.end:
	case <-time.After(20 * time.Second):
		t.Error("the program goes on after its write was denied")
	}
}

// say writes to the connection.
func (p *talker) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.in, text); err != nil {
		t.Logf("saying %q: %v", text, err) // its end may have come first
	}
}

// ask sends a request.
func (p *talker) ask(t *testing.T, path string) {
	t.Helper()
	p.say(t, request("GET", path))
}

// request is a request without a body.
func request(method, path string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"
}

// host and port of the server.
func (s *scene) host() string { return s.server.Addr().String() }

func (s *scene) port() string { return s.server.String()[strings.LastIndex(s.server.String(), ":")+1:] }
