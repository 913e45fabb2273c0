package tls

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// covered is a scene whose TLS libraries are tapped.
func covered(t *testing.T, step event.Step) *scene {
	t.Helper()
	s := newScene(t, step)
	s.coverAll(t)
	return s
}

// coverAll taps the libraries of all programs.
func (s *scene) coverAll(t *testing.T) {
	t.Helper()
	for _, p := range programs() {
		early := s.start(t, p.args(s)...)
		s.cover(t, early, p.library)
		_ = early.in.Close() // it may have ended
	}
}

// Requests over TLS are judged before they are encrypted: what a rule allows arrives, what none allows does not, and the
// program is told.
func TestRequestsAreJudged(t *testing.T) {
	onSteps(t, func(t *testing.T, step event.Step) {
		s := covered(t, step)
		s.swap(t, "Enforce", asked)
		for _, p := range programs() {
			t.Run(p.name, func(t *testing.T) { judged(t, s, p) })
		}
		t.Run("curl", func(t *testing.T) { curl(t, s) })
		t.Run("Go clients", func(t *testing.T) { goClients(t, s) })
		if step != event.StepLSM {
			return // what is read, and how it is judged, is the same on all
		}
		t.Run("HTTP/2", func(t *testing.T) { http2(t, s) })
		t.Run("ending", func(t *testing.T) { ending(t, s) })
		t.Run("heads", func(t *testing.T) { heads(t, s) })
		t.Run("policies", func(t *testing.T) { policies(t, s) })
		t.Run("names", func(t *testing.T) { names(t, s) })
		t.Run("ways", func(t *testing.T) { opensslWays(t, s) })
		t.Run("fresh", func(t *testing.T) { freshFiles(t, s) })
	})
}

// judged is a program that asks for two things on one connection.
func judged(t *testing.T, s *scene, p program) {
	t.Helper()
	allowed, denied := "/allowed/"+p.name, "/denied/"+p.name
	c := s.start(t, p.args(s)...)
	c.ask(t, allowed)
	s.arrived(t, allowed)
	c.ask(t, denied)
	s.told(t, c.Process.Process.Pid, event.VerdictDeny, event.ReasonRule)
	_ = c.in.Close() // it may have ended
	c.ended(t)
	if s.has(denied) {
		t.Errorf("the server has seen %s", denied)
	}
}

func curl(t *testing.T, s *scene) {
	t.Helper()
	url := "https://" + s.server.String()
	if out := s.box.Command("curl", "-sk", url+"/allowed/curl").Run(t); out != "welcome" {
		t.Errorf("curl says %q", out)
	}
	for _, args := range [][]string{
		{url + "/denied/curl"},
		{"-X", "DELETE", url + "/allowed/curl-deletes"},
		{url + "/allowed/curl-first", url + "/denied/curl"},
		{"--data-binary", strings.Repeat("a", 100_000), url + "/denied/curl"},
		{"--path-as-is", url + "/allowed/../denied/curl"},
	} {
		c := s.box.Command(append([]string{"curl", "-skS", "--http1.1"}, args...)...)
		out := c.Run(t)
		// 55: sending failed.
		if code := c.ProcessState.ExitCode(); code != 55 || !strings.Contains(c.Complaint(), "not permitted") {
			t.Errorf("%.60q: curl ends with %d, says %q, complains %q", args, code, out, c.Complaint())
		}
	}
	if s.has("/denied/curl") || s.has("/allowed/curl-deletes") || !s.has("/allowed/curl-first") {
		t.Errorf("the server has seen %q", s.seen)
	}
}

// heads sends what is read as written: in pieces, several in one write, with bodies, and what could be two things.
func heads(t *testing.T, s *scene) {
	t.Helper()
	body := request("GET", "/denied/body")
	for i, c := range []struct {
		name    string
		said    []string
		arrives []string // paths
		stays   string   // a path that does not
		why     event.Reason
	}{
		{"in two writes", []string{"GET /den", "ied/1 HTTP/1.1\r\nHost: a\r\n\r\n"}, nil, "/denied/1", event.ReasonRule},
		{"two in one write", []string{request("GET", "/allowed/2") + request("GET", "/denied/2")}, nil, "/denied/2", event.ReasonRule},
		{"a body that looks like a request", []string{"POST /allowed/3 HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body + request("GET", "/allowed/4") + request("GET", "/denied/4")}, nil, "/denied/4", event.ReasonRule},
		{"a long body", []string{"POST /allowed/5 HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n", strings.Repeat("x", 20000) + request("GET", "/allowed/6"), request("PUT", "/allowed/7")}, []string{"/allowed/5", "/allowed/6"}, "/allowed/7", event.ReasonRule},
		{"chunks", []string{"POST /allowed/8 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + request("GET", "/allowed/9"), request("GET", "/denied/9")}, []string{"/allowed/8", "/allowed/9"}, "/denied/9", event.ReasonRule},
		{"two lengths", []string{"POST /allowed/10 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"}, nil, "/allowed/10", event.ReasonAmbiguous},
		{"a way out of the path", []string{request("GET", "/allowed/../denied/11")}, nil, "/denied/11", event.ReasonAmbiguous},
		{"bare line feeds", []string{"GET /allowed/12 HTTP/1.1\nHost: a\n\n"}, nil, "/allowed/12", event.ReasonAmbiguous},
		{"a long head", []string{"GET /allowed/13 HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 9000) + "\r\n\r\n"}, nil, "/allowed/13", event.ReasonAmbiguous},
		{"HTTP/2 that is none", []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + request("GET", "/allowed/14")}, nil, "/allowed/14", event.ReasonAmbiguous},
		{"no HTTP", []string{"EHLO a.example\r\n"}, nil, "", event.ReasonAmbiguous},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := programs()[i%len(programs())]
			conn := s.start(t, p.args(s)...)
			for j, text := range c.said {
				switch {
				case j == 0:
				case j <= len(c.arrives):
					s.arrived(t, c.arrives[j-1])
				default:
					s.took(t, conn.Process.Process.Pid)
				}
				conn.say(t, text)
			}
			s.told(t, conn.Process.Process.Pid, event.VerdictDeny, c.why)
			_ = conn.in.Close() // it may have ended
			conn.ended(t)
			for _, path := range c.arrives {
				s.arrived(t, path)
			}
			if s.has(c.stays) {
				t.Errorf("the server has seen %s", c.stays)
			}
		})
	}
}

// took waits until the one connection of a process has read all that was written to it so far, and something was.
func (s *scene) took(t *testing.T, pid int) {
	t.Helper()
	testutil.Eventually(t, "what was written first", func() error {
		for _, conn := range s.conns(t, pid) {
			if conn.State == tied && conn.Ahead == 0 && conn.Request.Head > 0 {
				return nil
			}
		}
		return fmt.Errorf("its connections: %+v", s.conns(t, pid))
	})
}

// policies reset, only audit, change while a connection lives, or say nothing of requests.
func policies(t *testing.T, s *scene) {
	t.Helper()
	s.swap(t, "Enforce\n  onViolation: {verdict: Reset}", asked)
	c := s.box.Command("curl", "-skS", "--http1.1", "https://"+s.server.String()+"/denied/reset")
	out := c.Run(t)
	if code := c.ProcessState.ExitCode(); code != 55 || !strings.Contains(c.Complaint(), "reset by peer") || s.has("/denied/reset") {
		t.Errorf("where the verdict is Reset, curl ends with %d, says %q, complains %q", code, out, c.Complaint())
	}
	p := programs()[0]
	s.swap(t, "Audit", asked)
	audited := s.start(t, p.args(s)...)
	audited.ask(t, "/denied/audited")
	s.arrived(t, "/denied/audited")
	s.told(t, audited.Process.Process.Pid, event.VerdictAudit, event.ReasonRule)

	s.swap(t, "Enforce", plain)
	free := s.start(t, p.args(s)...)
	free.say(t, "EHLO a.example\r\n\r\n")
	free.ended(t) // the server does not like it, and says so
	if !strings.Contains(free.Result(), "400") {
		t.Errorf("where rules say nothing of requests, the server says %q (%s)", free.Result(), free.Complaint())
	}

	audited.ask(t, "/denied/unasked")
	s.arrived(t, "/denied/unasked")
	s.swap(t, "Enforce", asked)
	audited.ask(t, "/allowed/midway")
	s.told(t, audited.Process.Process.Pid, event.VerdictDeny, event.ReasonAmbiguous)
	_ = audited.in.Close() // it may have ended
	audited.ended(t)
	if s.has("/allowed/midway") {
		t.Error("a connection whose requests nobody followed goes on")
	}
}
