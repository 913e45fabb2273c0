package agent

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	curlImage = "test.local/curl:1"
	curlPath  = "/usr/bin/curl"
)

// withLibraries is a program of the machine and the libraries that it maps, for an image. The loader itself names them, so
// that this works where there is no ldd.
func withLibraries(t *testing.T, path string) []testutil.File {
	t.Helper()
	const loader = "/lib64/ld-linux-x86-64.so.2"
	out, err := exec.Command(loader, "--list", path).Output()
	if err != nil {
		testutil.Unsupported(t, path, err.Error())
	}
	files := []testutil.File{{Path: path, Source: path}, {Path: loader, Source: loader}}
	for field := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(field, "/") && field != loader {
			files = append(files, testutil.File{Path: field, Source: field})
		}
	}
	return files
}

// TestStarWarsOverTLS is Cilium's demo over HTTPS, without a proxy: the main program's curl may land and not go to the
// exhaust port, and the same curl in a shell gets nowhere, before its first byte. Where the kernel has no hook for sends
// nobody knows which connection a tap is of: there nothing gets through.
func TestStarWarsOverTLS(t *testing.T) {
	s := newScene(t)
	d, listener := s.newStar(t)
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(d)
	_ = server.Listener.Close() // ours instead
	server.Listener = listener
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are denied
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.containerd.Image(t, curlImage, withLibraries(t, curlPath)...)
	s.agent.Policy(t, "web.yaml", s.starPolicy(d))
	s.agent.Start(t)
	ask := func(method, path string) string {
		return fmt.Sprintf("%s -sSk -m 60 -X %s https://%s%s", curlPath, method, d.addr, path)
	}
	land, exhaust := ask("POST", "/v1/request-landing"), ask("PUT", "/v1/exhaust-port")
	web := s.containerd.Run(t, testutil.RunSpec{
		ID: "web", Image: curlImage, NetNS: s.net.Pod.Path(), Labels: map[string]string{"app": "web"},
		Args: []string{"sh", "-c", "until [ -e /go ]; do sleep 0.1; done; " + land + "; " + exhaust + "; echo ended with $?; sleep 1000"},
	})
	s.agent.awaitGoverned(t, "web")
	s.agent.awaitStatus(t, "the tap of the library", func(st status) error {
		for _, w := range st.Workloads {
			for _, f := range w.TLS {
				if w.ContainerID == "web" && strings.Contains(string(f.Path), "libssl") && f.Library == "OpenSSL" && f.Why == "" {
					return nil
				}
			}
		}
		return errors.New("there is none")
	})
	goOn(t, web)
	testutil.Eventually(t, "the end of both requests", func() error {
		if text := web.Log(t); !strings.Contains(text, "ended with") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	followed := s.agent.followsSends(t)
	wantSeen := "POST /v1/request-landing"
	text := web.Log(t) // 55: sending failed
	if landed := strings.Contains(text, "Ship landed\n") && strings.Contains(text, "ended with 55\n"); landed != followed || !followed && strings.Contains(text, "landed") {
		t.Errorf("the main program says %q", text)
	}
	if !followed {
		wantSeen = ""
	}
	if seen := d.requests(); seen != wantSeen {
		t.Errorf("the server has seen %q", seen)
	}
	before := connections.Load()
	for _, request := range []string{land, exhaust} {
		if r := web.Exec(t, strings.Fields(request)...); r.Code != 7 { // could not connect
			t.Errorf("curl in a shell: %+v", r)
		}
	}
	if now, seen := connections.Load(), d.requests(); now != before || seen != wantSeen {
		t.Errorf("of the shell the server has seen %d connections, and in all %q", now-before, seen)
	}
	if !followed {
		return
	}
	testutil.Eventually(t, "the denied request is told", func() error {
		for _, e := range s.agent.Observe(t, "--verdict", "Deny") {
			if e.Kind == "request" && e.Method == http.MethodPut && e.Path == "/v1/exhaust-port" && e.Host == d.addr.String() && e.Origin == "Main" {
				return nil
			}
		}
		return errors.New("no such event")
	})
}
