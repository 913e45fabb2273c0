package agent

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	goImage = "test.local/go:1"
	goPath  = "/bin/asks-by-go"
)

// goClient waits for /go, then posts to URLs in turn, each on a connection of its own, and prints the path and what came of it.
const goClient = `package main

import ("crypto/tls"; "fmt"; "io"; "net/http"; "os"; "time")

func main() {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	for _, err := os.Stat("/go"); err != nil; _, err = os.Stat("/go") {
		time.Sleep(100 * time.Millisecond)
	}
	for ; ; time.Sleep(100 * time.Millisecond) {
		for _, url := range os.Args[1:] {
			said := "nothing"
			if answer, err := client.Post(url, "text/plain", nil); err == nil {
				body, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				said = string(body)
			}
			fmt.Println(url, said)
		}
	}
}
`

// buildGoClient builds it stripped.
func buildGoClient(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		testutil.Unsupported(t, "go", err.Error())
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "client")
	if err := os.WriteFile(source, []byte(goClient), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the client: %v\n%s", err, out)
	}
	return program
}

// serveTLSStar is the server of the demo over TLS.
func (s *scene) serveTLSStar(t *testing.T) *star {
	t.Helper()
	d, listener := s.newStar(t)
	server := httptest.NewUnstartedServer(d)
	_ = server.Listener.Close() // ours instead
	server.Listener = listener
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are denied
	server.StartTLS()
	t.Cleanup(server.Close)
	return d
}

// followsSends says whether the kernel has a hook for sends, without which no connection is known to a tap.
func (a *agent) followsSends(t *testing.T) (yes bool) {
	t.Helper()
	for _, h := range a.Status(t).Hooks {
		yes = yes || h.Name == "sendmsg" && (h.Step == "lsm" || h.Step == "fmod_ret")
	}
	return yes
}

// TestGoProgramOfThePod: the agent finds the TLS of a stripped Go program and says so. What no rule allows does not reach
// the server; what one allows does, where the kernel has a hook for sends: without one no connection is known to the tap.
func TestGoProgramOfThePod(t *testing.T) {
	s := newScene(t)
	d := s.serveTLSStar(t)
	s.containerd.Image(t, goImage, testutil.File{Path: goPath, Source: buildGoClient(t)})
	s.agent.Policy(t, "web.yaml", s.starPolicy(d))
	s.agent.Start(t)
	url := "https://" + d.addr.String() + "/v1/"
	web := s.containerd.Run(t, testutil.RunSpec{
		ID: "web", Image: goImage, NetNS: s.net.Pod.Path(), Labels: map[string]string{"app": "web"},
		Args: []string{goPath, url + "request-landing", url + "exhaust-port"},
	})
	s.agent.awaitGoverned(t, "web")
	goOn(t, web)
	s.agent.awaitStatus(t, "the tap of the program", func(st status) error {
		for _, w := range st.Workloads {
			for _, f := range w.TLS {
				if w.ContainerID == "web" && string(f.Path) == goPath && f.Library == "Go crypto/tls" && f.Why == "" {
					return nil
				}
			}
		}
		return errors.New("there is none")
	})
	followed := s.agent.followsSends(t)
	more(t, "more tries", func() string { return web.Log(t) }, url+"exhaust-port nothing", 2)
	if followed {
		testutil.Eventually(t, "an allowed request", func() error {
			if text := web.Log(t); !strings.Contains(text, url+"request-landing Ship landed") {
				return fmt.Errorf("it says %q", text)
			}
			return nil
		})
	}
	if seen := d.requests(); strings.Contains(seen, "exhaust-port") || !followed && seen != "" {
		t.Errorf("the server has seen %q", seen)
	}
}
