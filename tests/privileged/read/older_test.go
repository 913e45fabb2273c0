package read

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
)

// older is a policy under which nobody reads requests.
const older = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: Enforce
  rules:
  - name: all
    egress: [{toPorts: [{ports: [{port: 8082, protocol: TCP}]}]}]
    ingress: [{toPorts: [{ports: [{port: 8081, protocol: TCP}]}]}]
`

// asking is how often an end asks whether the other is still there: nobody has followed the numbers of an older connection's
// bytes, so no reset in the name of who was denied reaches it.
var asking = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second} //nolint:gochecknoglobals // is not changed

// TestOlderThanPolicy: on a connection that is older than the policy nobody knows where a request begins, nor what is in the
// table of HPACK: what is said on it is denied.
func TestOlderThanPolicy(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	awaitServer(t, s.Server, netip.AddrPortFrom(s.PodAddr, inPort))
	ask := func(version, method, path string) []string {
		if version == "HTTP/1" {
			one := method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"
			return []string{one, one}
		}
		h := newH2(true)
		return []string{h.take(firstStream, method, path), h.take(secondStream, method, path)}
	}
	for _, version := range []string{"HTTP/1", "HTTP/2"} {
		s.events.Reset()
		s.olderOut(t, self, conversation{Name: version, Pieces: ask(version, http.MethodPost, "/v1/request-landing"), Ends: reset})
		s.olderIn(t, conversation{Name: version, Pieces: ask(version, http.MethodGet, "/open"), Ends: reset})
		s.awaitEnds(t)
		for _, call := range []event.Call{event.CallPacketOut, event.CallPacketIn} {
			s.await(t, func(e event.Event) bool {
				return e.Call == call && e.Flaw == event.FlawMidway && e.Verdict == event.VerdictDeny
			})
		}
	}
}

// olderOut has a client in the pod say a first piece before the policy comes, and the second after it.
func (s *scene) olderOut(t *testing.T, self string, c conversation) {
	t.Helper()
	s.inForce(t, older)
	to := netip.AddrPortFrom(s.ServerAddr, nginxPort)
	listener := s.Server.Listen(t, to)
	defer func() { _ = listener.Close() }() // its connection has ended
	c.Wait, c.Back = true, c.Pieces[0]
	p := s.pod.Command(self, holdArg, to.String(), order(t, c))
	p.Start(t)
	if err := s.answerUnderPolicy(t, listener.(*net.TCPListener), c.Pieces[0]); err != nil {
		t.Errorf("%s out: %v", c.Name, err)
	}
	if wrong := p.Result(); wrong != "" || !p.ProcessState.Success() {
		t.Errorf("out: %s%s", wrong, p.Complaint())
	}
}

// answerUnderPolicy sends back what comes first on the next connection when the policy is in force, and expects nothing more.
func (s *scene) answerUnderPolicy(t *testing.T, listener *net.TCPListener, first string) error {
	t.Helper()
	end := time.Now().Add(patience)
	if err := listener.SetDeadline(end); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // was read
	if err := errors.Join(conn.SetDeadline(end), conn.(*net.TCPConn).SetKeepAliveConfig(asking)); err != nil {
		return err
	}
	came := make([]byte, len(first))
	if _, err := io.ReadFull(conn, came); err != nil {
		return err
	}
	s.swap(t, "Enforce", policy.VerdictDeny)
	if _, err := conn.Write(came); err != nil {
		return err
	}
	if more, err := io.ReadAll(conn); len(more) > 0 || !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("the server got %q behind the policy, and then: %w", more, err)
	}
	return nil
}

// olderIn does it with a server in the pod.
func (s *scene) olderIn(t *testing.T, c conversation) {
	t.Helper()
	s.inForce(t, older)
	var conn net.Conn
	s.Server.Do(t, func() (err error) {
		dialer := net.Dialer{Timeout: patience, KeepAliveConfig: asking}
		conn, err = dialer.Dial("tcp", netip.AddrPortFrom(s.PodAddr, inPort).String())
		return err
	})
	defer func() { _ = conn.Close() }() // its end is not what counts
	wrong := conversation{Pieces: c.Pieces[:1], Back: c.Pieces[0]}.holdOn(conn)
	s.swap(t, "Enforce", policy.VerdictDeny)
	if wrong == "" {
		wrong = conversation{Pieces: c.Pieces[1:], Ends: c.Ends}.holdOn(conn)
	}
	if wrong != "" {
		t.Errorf("%s in: %s", c.Name, wrong)
	}
}
