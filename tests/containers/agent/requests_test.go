package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// star is the server of Cilium's Star Wars demo; seen are the requests that got to it.
type star struct {
	addr netip.AddrPort
	mu   sync.Mutex
	seen []string
}

// ServeHTTP implements http.Handler.
func (d *star) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, r.Method+" "+r.URL.Path)
	_, _ = io.WriteString(w, "Ship landed\n") // who waits for it says that it did not come
}

// newStar gives it a place behind the node; the caller has it served there.
func (s *scene) newStar(t *testing.T) (d *star, listener net.Listener) {
	t.Helper()
	listener = s.net.Server.Listen(t, netip.AddrPortFrom(s.net.ServerAddr, 0))
	return &star{addr: netip.MustParseAddrPort(listener.Addr().String())}, listener
}

// serveStar starts it behind the node.
func (s *scene) serveStar(t *testing.T) *star {
	t.Helper()
	d, listener := s.newStar(t)
	server := &http.Server{Handler: d}
	go func() { _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return d
}

func (d *star) requests() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.seen, ", ")
}

// ask is a script that makes a request and prints the answer.
func (d *star) ask(method, path string) string {
	return fmt.Sprintf(`printf '%s %s HTTP/1.1\r\nHost: deathstar\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' | nc -w 20 %s %d`,
		method, path, d.addr.Addr(), d.addr.Port())
}

// starPolicy lets Main land, and shells nothing.
func (s *scene) starPolicy(d *star) string {
	return s.policyOf("web", fmt.Sprintf(`  rules:
  - name: land
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [%s/32]
      toPorts:
      - ports: [{port: "%d", protocol: TCP}]
        rules: {http: [{method: POST, path: "/v1/request-landing"}]}
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`, d.addr.Addr(), d.addr.Port()))
}

// TestRequestsOfThePod is Cilium's Star Wars demo without a proxy: the main program may land, and is answered 403 at the
// exhaust port; a shell gets nowhere. The server sees what passed, and who asked for what is told.
func TestRequestsOfThePod(t *testing.T) {
	s := newScene(t)
	d := s.serveStar(t)
	s.agent.Policy(t, "web.yaml", s.starPolicy(d))
	s.agent.Start(t)
	web := s.run(t, "web", "until [ -e /go ]; do sleep 0.1; done; "+d.ask("POST", "/v1/request-landing")+"; "+d.ask("PUT", "/v1/exhaust-port?thermal=1")+"; echo; echo done; sleep 1000")
	s.agent.awaitGoverned(t, "web")
	goOn(t, web)
	testutil.Eventually(t, "both answers", func() error {
		if !strings.Contains(web.Log(t), "done") {
			return fmt.Errorf("it says %q", web.Log(t))
		}
		return nil
	})
	landed, denied, _ := strings.Cut(web.Log(t), "Ship landed")
	if !strings.HasPrefix(landed, "HTTP/1.1 200") || !strings.Contains(denied, "HTTP/1.1 403") || !strings.Contains(denied, "Access denied") {
		t.Errorf("the main program was answered %q", web.Log(t))
	}
	if seen := d.requests(); seen != "POST /v1/request-landing" {
		t.Errorf("the server has seen %q", seen)
	}
	if r := web.Exec(t, "sh", "-c", d.ask("POST", "/v1/request-landing")); strings.Contains(r.Stdout, "HTTP") {
		t.Errorf("a shell was answered %q", r.Stdout)
	}
	if seen := d.requests(); seen != "POST /v1/request-landing" {
		t.Errorf("of the shell the server has seen %q", seen)
	}
	testutil.Eventually(t, "the denied request is told", func() error {
		for _, e := range s.agent.Observe(t, "--verdict", "Deny") {
			if e.Kind == "request" && e.Method == http.MethodPut && e.Path == "/v1/exhaust-port" && e.Host == "deathstar" &&
				e.Origin == "Main" && e.Rule == s.containerd.Namespace+"/web/land" {
				return nil
			}
		}
		return errors.New("no such event")
	})
	testutil.Eventually(t, "the answer to the allowed request is told", func() error {
		for _, e := range s.agent.Observe(t) {
			if e.Kind == "response" && e.Method == http.MethodPost && e.Path == "/v1/request-landing" && e.Status == http.StatusOK && e.LatencyNS > 0 &&
				e.Rule == s.containerd.Namespace+"/web/land" {
				return nil
			}
		}
		return errors.New("no such event")
	})
	log, err := os.ReadFile(s.agent.Path("alerts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(log); !strings.Contains(text, `"path":"/v1/exhaust-port"`) || strings.Contains(text, "thermal") {
		t.Errorf("the alerts say %s", text)
	}
}

// TestRequestsInsideThePod: what a container is denied on its pod's own address no veth can answer. The agent ends the
// connection, at both ends, which neither would do by itself.
func TestRequestsInsideThePod(t *testing.T) {
	s := newScene(t)
	const port = 8090
	s.agent.Policy(t, "loop.yaml", s.policyOf("loop", fmt.Sprintf(`  rules:
  - name: land
    egress:
    - toCIDR: [%s/32]
      toPorts:
      - ports: [{port: "%d", protocol: TCP}]
        rules: {http: [{method: POST, path: "/v1/request-landing"}]}
`, s.net.PodAddr, port)))
	s.agent.Start(t)
	d := &star{addr: netip.AddrPortFrom(s.net.PodAddr, port)}
	ask := strings.Replace(d.ask("PUT", "/v1/exhaust-port"), "-w 20", "-w 1000", 1)
	listens := fmt.Sprintf(`grep -q ":%04X .* 0A " /proc/net/tcp /proc/net/tcp6`, port)
	loop := s.run(t, "loop", fmt.Sprintf("until [ -e /go ]; do sleep 0.1; done; nc -l -p %d >/got & until %s; do sleep 0.1; done; %s; wait; echo got $(wc -c </got); sleep 1000",
		port, listens, ask))
	s.agent.awaitGoverned(t, "loop")
	goOn(t, loop)
	testutil.Eventually(t, "the end of both", func() error {
		if text := loop.Log(t); !strings.Contains(text, "got 0") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}
