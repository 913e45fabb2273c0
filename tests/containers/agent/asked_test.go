package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/nginx"
)

const (
	askers  = 4               // connections that ask at once
	askTime = 5 * time.Minute // for all that is asked, on a busy machine
)

// TestAlertsAmongRequests: a container asks for what it may, each request told, faster than anybody could write it down, and
// for what it may not. Requests that were not told are counted, and of the alerts none is lost.
func TestAlertsAmongRequests(t *testing.T) {
	many, denied := testutil.Flood(t, 500_000, 20_000), 200
	s := newScene(t)
	s.agent.conf.extra = "visibility: {connect: true}"
	web := netip.AddrPortFrom(s.net.ServerAddr, 8080)
	nginx.Start(t, s.net.Server, fmt.Sprintf("server { listen %s; location / { return 204; } }", web), web)
	s.agent.Policy(t, "web.yaml", s.policyOf("web", fmt.Sprintf(`  rules:
  - name: open
    egress:
    - toCIDR: [%s/32]
      toPorts:
      - ports: [{port: "%d", protocol: TCP}]
        rules: {http: [{method: GET, path: "/open"}]}
`, web.Addr(), web.Port())))
	s.agent.Start(t)
	c := s.run(t, "web", "until [ -e /go ]; do sleep 0.1; done; "+
		strings.Repeat(fmt.Sprintf("victim -- ask-tcp %s %d %d /open & ", web.Addr(), web.Port(), many/askers), askers)+"wait; echo done; sleep 1000")
	s.agent.awaitGoverned(t, "web")
	goOn(t, c)
	began := time.Now()
	ask := fmt.Sprintf(`for i in $(seq %d); do printf "GET /closed/$i HTTP/1.1\r\nHost: a\r\n\r\n" | nc -w 20 %s %d; done`, denied, web.Addr(), web.Port())
	c.ExecDetached(t, "session", "sh", "-c", ask+"; echo; echo done")
	asked := awaitDone(t, func() string { return c.Log(t) })
	t.Logf("%d requests in %s", many, time.Since(began))
	session := awaitDone(t, func() string { return c.ExecLog(t, "session") })
	if n := strings.Count(session, "Access denied"); n != denied {
		t.Errorf("%d of %d denied requests were answered", n, denied)
	}
	if n := strings.Count(asked, "ask-tcp: ok"); n != askers {
		t.Errorf("who asked for what is allowed says %q", asked)
	}
	testutil.Eventually(t, "an alert for each denied request", func() error {
		told := map[string]bool{}
		for _, e := range s.agent.alerts(t) {
			told[e.Path] = told[e.Path] || e.Kind == "request" && e.Verdict == "Deny"
		}
		for i := range denied {
			if path := fmt.Sprintf("/closed/%d", i+1); !told[path] {
				return errors.New("none of " + path)
			}
		}
		return nil
	})
	open := func(e event) bool { return e.Kind == "request" && e.Path == "/open" && e.Verdict == "Allow" }
	if !slices.ContainsFunc(s.agent.Observe(t), open) {
		t.Error("no allowed request is told: not what was to be tested")
	}
	for _, loss := range s.agent.Status(t).Losses {
		if loss.Site != "flow_ring" && loss.Count != 0 {
			t.Errorf("%d losses of %s", loss.Count, loss.Site)
		}
	}
}

// awaitDone waits until what text returns says that it is done, and returns all it said.
func awaitDone(t *testing.T, text func() string) string {
	t.Helper()
	for end := time.Now().Add(askTime); ; time.Sleep(100 * time.Millisecond) {
		if said := text(); strings.Contains(said, "done\n") {
			return said
		} else if time.Now().After(end) {
			t.Fatalf("it is not done after %s, and has said %q", askTime, said)
		}
	}
}
