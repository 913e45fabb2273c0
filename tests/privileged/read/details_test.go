package read

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/details"
)

// curlVersions are what curl is told to speak.
func curlVersions() map[string]string {
	return map[string]string{"h1": "--http1.1", "h2": "--http2-prior-knowledge"}
}

// newDetailed is a scene that tells what is allowed, with the query and headers of requests.
func newDetailed(t *testing.T) *scene {
	t.Helper()
	s := newUngatedOf(t, "Enforce", probes.Config{TellConnect: true, TellQuery: true, TellHeaders: details.Headers()})
	s.govern(t)
	return s
}

// curlIn runs curl outside, for a server in the pod.
func (s *scene) curlIn(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("/usr/bin/curl", append([]string{"-sS", "--max-time", "5"}, args...)...)
	s.Server.Start(t, cmd)
	_ = cmd.Wait() // what it gets is another test's
}

// TestDetails: the query of requests and the headers that are named are told of both versions of HTTP, of clients and of
// servers in the pod, bounded, and nothing else is.
func TestDetails(t *testing.T) {
	s := newDetailed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	in := netip.AddrPortFrom(s.PodAddr, inPort)
	awaitServer(t, s.Server, in)
	for version, flag := range curlVersions() {
		for _, c := range details.Cases() {
			if c.HTTP1 && version != "h1" {
				continue
			}
			args := append([]string{"-g", flag}, c.Args...)
			out, back := "/out/"+c.Name+"/"+version, "/in/"+c.Name+"/"+version
			s.curl(t, append(args, at(s.ServerAddr)+out+c.Query)...)
			s.curlIn(t, append(args, "http://"+in.String()+back+c.Query)...)
			for _, path := range []string{out, back} {
				e := s.await(t, func(e event.Event) bool { return e.Path == path })
				diff := c.Differs(&e)
				if c.Large && details.LeftOut(&e) {
					diff = ""
				}
				if diff != "" || e.Verdict != event.VerdictDeny || e.Flaw != event.FlawNone {
					t.Errorf("%s is told as %+v:\n%s", path, e, diff)
				}
			}
		}
		s.curl(t, flag, "-XPOST", "-A", "agent", at(s.ServerAddr)+"/v1/request-landing?"+version)
		e := s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictAllow && e.URLQuery == version })
		if len(e.Headers) != 1 || e.Headers[0].Value != "agent" || e.Path != "/v1/request-landing" {
			t.Errorf("an allowed request is told as %+v", e)
		}
	}
}

// TestDetailsOfPieces: of a head that comes in several packets they are left out, wherever it is split, and that is said; the
// next head of the connection is told whole.
func TestDetailsOfPieces(t *testing.T) {
	s := newDetailed(t)
	s.serveBack(t, nginxPort)
	const rest = "?q=1 HTTP/1.1\r\nHost: a\r\nx-a: x-request-id:" + details.Secret + "\r\nUser-Agent: agent\r\n\r\n"
	split := "POST /v1/request-landing" + rest
	whole := "PUT /v1/exhaust-port" + rest
	pieces := cut("in two", split, conversation{Wait: true})
	for i := range pieces {
		pieces[i].Pieces = append(pieces[i].Pieces, whole)
		pieces[i].Back, pieces[i].Ends = split+answer, ended
	}
	const atOnce = 25 // the clients' order is an argument
	for all := pieces; len(all) > 0; {
		n := min(atOnce, len(all))
		s.hold(t, netip.AddrPortFrom(s.ServerAddr, nginxPort).String(), all[:n]...)
		all = all[n:]
	}
	testutil.Eventually(t, "all that is told", func() error {
		n := len(s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest }))
		if n < 2*len(pieces) {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	told := map[event.Verdict]int{}
	for _, e := range s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest }) {
		told[e.Verdict]++
		if strings.Contains(fmt.Sprintf("%+v", e), details.Secret) {
			t.Errorf("it has a secret in it: %+v", e)
		}
		if e.Verdict == event.VerdictDeny {
			if e.URLQuery != "q=1" || e.URLQueryCut || len(e.Headers) != 1 || e.Headers[0] != (event.Header{Name: "user-agent", Value: "agent", There: true}) {
				t.Errorf("a whole head is told as %+v", e)
			}
			continue
		}
		if !details.LeftOut(&e) {
			t.Errorf("a head in pieces is told as %+v", e)
		}
	}
	if told[event.VerdictAllow] != len(pieces) || told[event.VerdictDeny] != len(pieces) {
		t.Errorf("of %d connections were told %v", len(pieces), told)
	}
}

// TestNoDetails: where nobody asks for them nothing of a query or of a header's value is told.
func TestNoDetails(t *testing.T) {
	s := newTelling(t)
	for _, flag := range curlVersions() {
		args := []string{flag, "-A", details.Secret, "-H", "X-Request-ID: " + details.Secret}
		for method, path := range map[string]string{"-XPOST": "/v1/request-landing", "-XPUT": "/v1/exhaust-port"} {
			s.events.Reset()
			s.curl(t, append(args, method, at(s.ServerAddr)+path+"?"+details.Secret)...)
			e := s.await(t, func(e event.Event) bool { return e.Path == path })
			if e.URLQuery != "" || e.URLQueryCut || len(e.Headers) > 0 {
				t.Errorf("it is told as %+v", e)
			}
			for _, e := range s.events.Find(func(event.Event) bool { return true }) {
				e.Args = nil // of the execution: not of the request
				if strings.Contains(fmt.Sprintf("%+v", e), details.Secret) {
					t.Errorf("it has a secret in it: %+v", e)
				}
			}
		}
	}
}

// TestDetailsOfAnotherList: an agent that begins with other headers has them told; who reads with the former list takes none of
// their values for those of its own names.
func TestDetailsOfAnotherList(t *testing.T) {
	s := newDetailed(t)
	told := func(path string) event.Event {
		t.Helper()
		s.curl(t, "-A", "agent", "-H", "X-Other: "+details.Secret, at(s.ServerAddr)+path+"?q=1")
		return s.await(t, func(e event.Event) bool { return e.Path == path })
	}
	if e := told("/before"); len(e.Headers) != 1 || e.Headers[0].Value != "agent" {
		t.Errorf("it is told as %+v", e)
	}
	for i, names := range [][]string{{"x-other"}, nil} {
		k, err := probes.Open(probes.Config{
			BPFFS: s.node.BPFFS, PinDir: "sallyport", CgroupRoot: s.node.CgroupRoot, ContainerParents: []string{s.node.Parent},
			TellConnect: true, TellQuery: true, TellHeaders: names,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() }) // handles only
		if e := told(fmt.Sprintf("/after/%d", i)); len(e.Headers) > 0 || e.URLQuery != "q=1" {
			t.Errorf("with headers %q it is told as %+v", names, e)
		}
	}
}
