package tls

import (
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// TestFrontingOverTLS: a request for another site than the name that its connection asked for is denied, over HTTP/1 and HTTP/2,
// whether the connection is allowed by its name or its requests are by rules.http. A connection that asked for no name says nothing.
func TestFrontingOverTLS(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{FrontTell: true, FrontRefuse: true})
		s.coverAll(t)
		s.swap(t, "Enforce", askedOrNamed)
		for i, c := range []struct {
			name, host, path string
			ok               bool
		}{
			{"named.example", "named.example", "/any/", true},
			{"named.example", "NAMED.example:443", "/any/", true},
			{"named.example", "evil.example", "/any/", false},
			{"other.example", "other.example", "/allowed/", true},
			{"other.example", "evil.example", "/allowed/", false},
			{"other.example", "other.example.evil.example", "/allowed/", false},
			{s.server.Addr().String(), "evil.example", "/allowed/", true},
		} {
			for _, version := range []string{"--http1.1", "--http2"} {
				s.events.Reset()
				at, path := fmt.Sprintf("%s:%d", c.name, s.server.Port()), fmt.Sprintf("%s%d%s", c.path, i, version)
				p := s.box.Command("curl", "-skS", version, "--max-time", "20", "-H", "Host: "+c.host,
					"--resolve", at+":"+s.server.Addr().String(), "https://"+at+path)
				out := p.Run(t)
				if code := p.ProcessState.ExitCode(); (code == 0) != c.ok || s.has(path) != c.ok {
					t.Errorf("%s for %s by %s: curl ends with %d and %q, complains %q", path, c.host, c.name, code, out, p.Complaint())
				}
				if c.ok {
					continue
				}
				s.events.Wait(t, "the fronting", func(e event.Event) bool {
					return e.Reason == event.ReasonFronted && e.Verdict == event.VerdictDeny && e.Host == c.host && e.Step == event.StepTap
				})
			}
		}
	})
}
