package read

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/nginx"
)

// answering is a server of nginx that answers every request, over IPv4 and IPv6, and writes it into a log. Its arguments:
// two addresses, and the log.
const answering = `server { listen %s; listen %s; access_log %s requests; location / { return 200 "Ship landed"; } }`

// webServer is an nginx that writes down what it sees.
type webServer struct {
	dir  string
	args []string // that start it
}

func newNginx(t *testing.T, addrs ...netip.AddrPort) *webServer {
	t.Helper()
	w := &webServer{dir: t.TempDir()}
	w.args = nginx.Command(t, w.dir, fmt.Sprintf(answering, addrs[0], addrs[1], filepath.Join(w.dir, "requests")))
	return w
}

// sees waits until it has seen these requests and no others, and forgets them.
func (w *webServer) sees(t *testing.T, requests ...string) {
	t.Helper()
	name := filepath.Join(w.dir, "requests")
	testutil.Eventually(t, "the log of nginx", func() error {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(b)); got != strings.Join(requests, "\n") {
			complaints, err := os.ReadFile(filepath.Join(w.dir, "errors"))
			return errors.Join(fmt.Errorf("it says %q, and complains %q", got, complaints), err)
		}
		return os.Truncate(name, 0)
	})
}

// TestNginxOutside: of denied requests nginx sees nothing, also on connections that it keeps.
func TestNginxOutside(t *testing.T) {
	s := newScene(t, "Enforce")
	n := newNginx(t, netip.AddrPortFrom(s.ServerAddr, nginxPort), netip.AddrPortFrom(s.ServerAddr6, nginxPort))
	cmd := exec.Command(n.args[0], n.args[1:]...) // the test's own configuration
	s.Server.Start(t, cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it never ends by itself
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		to := netip.AddrPortFrom(addr, nginxPort)
		awaitServer(t, s.Server, to)
		land, exhaust := "http://"+to.String()+"/v1/request-landing", "http://"+to.String()+"/v1/exhaust-port"
		for range 3 { // curl makes a new connection for what comes after a denial
			text, code := s.curl(t, "-XPOST", land, land, "--next", "-sS", "-w", "%{http_code} %{num_connects}\n", "-XPUT", exhaust,
				"--next", "-sS", "-w", " %{num_connects}", "-XPOST", land)
			if code != 0 || text != "Ship landedShip landed"+denied+"\r\n403 0\nShip landed 1" {
				t.Errorf("curl ended with %d and %q", code, text)
			}
			n.sees(t, "POST /v1/request-landing 1", "POST /v1/request-landing 2", "POST /v1/request-landing 1")
		}
		s.awaitEnds(t)
	}
}

// TestNginxInside: clients outside are answered in the name of an nginx in the pod, which sees nothing of what is denied.
func TestNginxInside(t *testing.T) {
	s := newScene(t, "Enforce")
	n := newNginx(t, netip.AddrPortFrom(s.PodAddr, inPort), netip.AddrPortFrom(s.PodAddr6, inPort))
	server := s.pod.Command(n.args...)
	server.Start(t)
	t.Cleanup(func() { _ = server.Process.Kill(); server.Result() }) // it never ends by itself
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort)
		awaitServer(t, s.Server, to)
		open, closed := "http://"+to.String()+"/open", "http://"+to.String()+"/closed"
		cmd := exec.Command("/usr/bin/curl", "-sS", "--max-time", "20", open, open, "--next", "-sS", "-w", "%{http_code} %{num_connects}\n", closed,
			"--next", "-sS", "-w", " %{num_connects}", open, "--next", "-sS", "-I", closed)
		out := &strings.Builder{}
		cmd.Stdout = out
		s.Server.Start(t, cmd)
		err := cmd.Wait()
		if want := "Ship landedShip landed" + denied + "\r\n403 0\nShip landed 1" + strings.TrimSuffix(answer, denied+"\r\n"); err != nil || out.String() != want {
			t.Errorf("curl printed %q: %v", out, err)
		}
		n.sees(t, "GET /open 1", "GET /open 2", "GET /open 1")
		s.awaitEnds(t)
	}
}
