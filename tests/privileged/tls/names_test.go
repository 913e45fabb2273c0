package tls

import (
	"fmt"
	"strings"
	"testing"
)

// askedOrNamed says of the port: requests as in asked, or a name whatever is requested.
const askedOrNamed = asked + `}, {ports: [{port: "1", endPort: 65535, protocol: TCP}], serverNames: [named.example]`

// names: beside rules.http a rule with serverNames allows all requests to its names and none to others.
func names(t *testing.T, s *scene) {
	t.Helper()
	s.swap(t, "Enforce", askedOrNamed)
	const ok, sending = 0, 55 // exit codes of curl
	for _, c := range []struct {
		name, path string
		code       int
	}{
		{"named.example", "/denied/by-its-name", ok},
		{"other.example", "/allowed/by-its-path", ok},
		{"other.example", "/denied/other", sending},
	} {
		at := fmt.Sprintf("%s:%d", c.name, s.server.Port())
		p := s.box.Command("curl", "-skS", "--http1.1", "--max-time", "20", "--resolve", at+":"+s.server.Addr().String(), "https://"+at+c.path)
		out := p.Run(t)
		if code := p.ProcessState.ExitCode(); code != c.code || (code == ok) != (out == "welcome") || s.has(c.path) != (code == ok) {
			t.Errorf("%s at %s: curl ends with %d and %q, complains %q", c.path, c.name, code, out, p.Complaint())
		}
	}
	// What is no request passes by the name as well.
	for name, want := range map[string]string{"named.example": "400 Bad Request", "other.example": ""} {
		p := s.start(t, "openssl", "s_client", "-quiet", "-servername", name, "-connect", s.server.String())
		p.say(t, "EHLO a.example\r\n\r\n")
		p.ended(t)
		if out := p.Result(); !strings.Contains(out, want) || (want == "") != (out == "") {
			t.Errorf("no request at %s is answered with %q", name, out)
		}
	}
}
