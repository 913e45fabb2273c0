package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestDetailsOfRequests: where the configuration asks for the query and for headers of requests, every output has them, escaped,
// and nothing of those that it does not name.
func TestDetailsOfRequests(t *testing.T) {
	s := newScene(t)
	s.agent.conf.extra = "visibility: {query: true, headers: [x-request-id]}"
	d := s.serveStar(t)
	s.agent.Policy(t, "web.yaml", s.starPolicy(d))
	s.agent.Start(t)
	ask := fmt.Sprintf(`printf 'PUT /v1/exhaust-port?thermal=\377 HTTP/1.1\r\nHost: deathstar\r\nX-Request-ID: \377"4711\r\nAuthorization: s3cr3t\r\nContent-Length: 0\r\n\r\n' | nc -w 20 %s %d`,
		d.addr.Addr(), d.addr.Port())
	web := s.run(t, "web", "until [ -e /go ]; do sleep 0.1; done; "+ask+"; sleep 1000")
	s.agent.awaitGoverned(t, "web")
	goOn(t, web)
	var alerts string
	testutil.Eventually(t, "the denied request among the alerts", func() error {
		text, err := os.ReadFile(s.agent.Path("alerts.jsonl"))
		if err != nil {
			return err
		}
		if alerts = string(text); !strings.Contains(alerts, `"kind":"request"`) {
			return errors.New("no such alert")
		}
		return nil
	})
	lines := s.agent.Run(t, "observe", "--socket", s.agent.Socket, "-o", "json", "--kind", "request").Stdout
	for _, output := range []string{alerts, lines} {
		lines := strings.Split(strings.TrimSpace(output), "\n")
		i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, `"kind":"request"`) })
		if i < 0 {
			t.Fatalf("no request in %s", output)
		}
		var e struct {
			URLQuery string            `json:"urlQuery"`
			Headers  map[string]string `json:"headers"`
			Cut      string            `json:"cut"`
		}
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil {
			t.Fatal(err)
		}
		if e.URLQuery != `thermal=\xff` || len(e.Headers) != 1 || e.Headers["x-request-id"] != `\xff"4711` || e.Cut != "" || strings.Contains(lines[i], "s3cr3t") {
			t.Errorf("it is told as %s", lines[i])
		}
	}
	columns := s.agent.Run(t, "observe", "--socket", s.agent.Socket, "-o", "columns", "--kind", "request").Stdout
	if !strings.Contains(columns, `PUT deathstar/v1/exhaust-port?thermal=\xff`) || !strings.Contains(columns, `x-request-id="\xff\"4711"`) || strings.Contains(columns, "s3cr3t") {
		t.Errorf("the columns say %s", columns)
	}
}
