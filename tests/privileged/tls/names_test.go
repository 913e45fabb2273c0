package tls

import (
	"fmt"
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
}
