package tls

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/details"
)

// The query of requests over TLS and the headers that are named are told of both versions of HTTP, bounded, and nothing else
// is; of a head that comes in several writes they are left out, which is said.
func TestDetails(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true, TellQuery: true, TellHeaders: details.Headers()})
		s.coverAll(t)
		s.swap(t, "Enforce", asked)
		url := "https://" + s.server.String()
		for version, flag := range map[string]string{"h1": "--http1.1", "h2": "--http2"} {
			for _, c := range details.Cases() {
				if c.HTTP1 && version != "h1" {
					continue
				}
				path := "/denied/" + c.Name + "/" + version
				args := append([]string{"curl", "-skg", flag, "--max-time", "20"}, c.Args...)
				s.box.Command(append(args, url+path+c.Query)...).Run(t)
				e := s.tapped(t, path)
				if diff := c.Differs(&e); diff != "" || e.Verdict != event.VerdictDeny || e.Flaw != event.FlawNone {
					t.Errorf("%s is told as %+v:\n%s", path, e, diff)
				}
			}
			s.box.Command("curl", "-sk", flag, "--max-time", "20", "-A", "agent", url+"/allowed/"+version+"?q="+version).Run(t)
			e := s.tapped(t, "/allowed/"+version)
			if e.Verdict != event.VerdictAllow || e.URLQuery != "q="+version || len(e.Headers) != 1 || e.Headers[0].Value != "agent" {
				t.Errorf("an allowed request is told as %+v", e)
			}
		}
		s.detailsOfPieces(t)
	})
}

// tapped waits for what a tap tells of a request.
func (s *scene) tapped(t *testing.T, path string) event.Event {
	t.Helper()
	return s.events.Wait(t, "the request for "+path, func(e event.Event) bool {
		return e.Kind == event.KindRequest && e.Path == path && e.Step == event.StepTap
	})
}

// detailsOfPieces writes a head in two pieces, and one that is whole behind it.
func (s *scene) detailsOfPieces(t *testing.T) {
	t.Helper()
	for i, p := range programs() {
		conn := s.start(t, p.args(s)...)
		conn.say(t, "GET /allowed/pieces?q HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nx-a: ")
		testutil.Eventually(t, "a head that was begun", func() error {
			for _, c := range s.conns(t, conn.Process.Process.Pid) {
				if c.State == tied && c.Request.Head > 0 {
					return nil
				}
			}
			return errors.New("nothing was read")
		})
		whole := fmt.Sprintf("/denied/whole/%d", i)
		conn.say(t, "x-request-id:"+details.Secret+"\r\n\r\nGET "+whole+"?q=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: agent\r\n\r\n")
		e := s.tapped(t, whole)
		if e.URLQuery != "q=1" || e.URLQueryCut || len(e.Headers) != 1 || e.Headers[0].Value != "agent" {
			t.Errorf("%s: a whole head is told as %+v", p.name, e)
		}
		_ = conn.in.Close() // it may have ended
		conn.ended(t)
		e = s.events.Wait(t, "the request in pieces", func(e event.Event) bool {
			return e.Kind == event.KindRequest && e.Verdict == event.VerdictAllow && e.Subject.PID == uint32(conn.Process.Process.Pid)
		})
		if !details.LeftOut(&e) || strings.Contains(fmt.Sprintf("%+v", e), details.Secret) {
			t.Errorf("%s: a head in pieces is told as %+v", p.name, e)
		}
	}
}

// Where nobody asks for them nothing of a query or of a header's value is told.
func TestNoDetails(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		s.coverAll(t)
		s.swap(t, "Enforce", asked)
		for version, flag := range map[string]string{"h1": "--http1.1", "h2": "--http2"} {
			for _, path := range []string{"/allowed/" + version, "/denied/" + version} {
				s.box.Command("curl", "-sk", flag, "--max-time", "20", "-A", details.Secret, "-H", "X-Request-ID: "+details.Secret,
					"https://"+s.server.String()+path+"?"+details.Secret).Run(t)
				e := s.tapped(t, path)
				if e.URLQuery != "" || e.URLQueryCut || len(e.Headers) > 0 || strings.Contains(fmt.Sprintf("%+v", e), details.Secret) {
					t.Errorf("it is told as %+v", e)
				}
			}
		}
	})
}
