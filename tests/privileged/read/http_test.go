package read

import (
	"net/http"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// TestStarWars: over IPv4 and IPv6 what is allowed passes, alone and with a large body, and what is not never reaches the
// server, also when it comes behind what is allowed on one connection.
func TestStarWars(t *testing.T) {
	s := newScene(t, "Enforce")
	body := bodyFile(t)
	for _, url := range []string{at(s.ServerAddr), at(s.ServerAddr6)} {
		land, exhaust := url+"/v1/request-landing", url+"/v1/exhaust-port"
		for _, c := range []struct {
			name string
			args []string
			text string
			seen string
		}{
			{"allowed", []string{"-XPOST", land}, "Ship landed", "POST /v1/request-landing"},
			{"with a query", []string{"-XPOST", land + "?ship=x"}, "Ship landed", "POST /v1/request-landing"},
			{"with a large body", []string{"-H", "Expect:", "--data-binary", "@" + body, land}, "Ship landed", "POST /v1/request-landing"},
			{"with a body in chunks", []string{"-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", "@" + body, land}, "Ship landed", "POST /v1/request-landing"},
			{"twice on a connection", []string{"-XPOST", land, land}, "Ship landedShip landed", "POST /v1/request-landing, POST /v1/request-landing"},
		} {
			text, code := s.curl(t, c.args...)
			if seen := s.requests(); code != 0 || text != c.text || seen != c.seen {
				t.Errorf("%s at %s: curl ended with %d and %q; the server saw %q", c.name, url, code, text, seen)
			}
		}
		if text, code := s.curl(t, "-XPUT", exhaust); code != 0 || text != denied {
			t.Errorf("a denied request at %s: curl ended with %d and %q", url, code, text)
		}
		if seen := s.requests(); seen != "" {
			t.Errorf("of denied requests the server saw %q", seen)
		}
		s.curl(t, "-XPOST", land, "--next", "-sS", "--max-time", "5", "-XPUT", exhaust)
		if seen := s.requests(); seen != "POST /v1/request-landing" {
			t.Errorf("of an allowed and a denied request the server saw %q", seen)
		}
	}
	e := s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
	if e.Method != http.MethodPut || e.Path != "/v1/exhaust-port" || e.Host == "" || e.Subject.Exe == "" || e.Reason != event.ReasonRule {
		t.Errorf("the denial is told as %+v", e)
	}
}

// TestWhatIsNoRequest: TLS and ambiguous requests are denied with their reason.
func TestWhatIsNoRequest(t *testing.T) {
	s := newScene(t, "Enforce")
	land := at(s.ServerAddr) + "/v1/request-landing"
	for flaw, args := range map[event.Flaw][]string{
		event.FlawPath:    {"--path-as-is", "-XPOST", at(s.ServerAddr) + "/v1/../v1/request-landing"},
		event.FlawFraming: {"-H", "Content-Length: 4", "-H", "Transfer-Encoding: chunked", "-d", "a", land},
		event.FlawTLS:     {"-k", "-XPOST", "https" + land[len("http"):]},
	} {
		if text, code := s.curl(t, args...); code == 0 && text == "Ship landed" {
			t.Errorf("flaw %d: curl ended with %d and %q", flaw, code, text)
		}
		if seen := s.requests(); seen != "" {
			t.Errorf("flaw %d: the server saw %q", flaw, seen)
		}
		e := s.await(t, func(e event.Event) bool { return e.Flaw == flaw })
		if e.Verdict != event.VerdictDeny || (e.Reason != event.ReasonAmbiguous && e.Reason != event.ReasonOpaque) {
			t.Errorf("flaw %d is told as %+v", flaw, e)
		}
	}
}

// TestAudit: what would be denied passes and is told, and so does what comes after something that cannot be read.
func TestAudit(t *testing.T) {
	s := newScene(t, "Audit")
	for _, c := range []struct{ method, path string }{{"POST", "/v1/request-landing"}, {"PUT", "/v1/exhaust-port"}, {"GET", "/a//b"}} {
		text, code := s.curl(t, "--path-as-is", "-X"+c.method, at(s.ServerAddr)+c.path)
		if code != 0 || text == "" {
			t.Errorf("%v: curl ended with %d and %q", c, code, text)
		}
	}
	e := s.await(t, func(e event.Event) bool { return e.Method == http.MethodPut })
	if e.Verdict != event.VerdictAudit || e.Would != event.VerdictDeny || e.Path != "/v1/exhaust-port" {
		t.Errorf("a request that would be denied is told as %+v", e)
	}
}
