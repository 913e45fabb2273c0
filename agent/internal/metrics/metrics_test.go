package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func newMetrics(t *testing.T, cfg Config) *Metrics {
	t.Helper()
	cfg.Log = quiet()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func wantLines(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestEventsAreCounted(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, Config{Version: "1.2.3"})
	for range 3 {
		m.Observe(&event.Event{Kind: event.KindConnect, Call: event.CallConnect, Verdict: event.VerdictDeny, Reason: event.ReasonRule})
	}
	m.Observe(&event.Event{Kind: event.KindForeign, Verdict: event.VerdictDrop, Reason: event.ReasonForeign})
	m.Observe(&event.Event{Kind: event.KindExec})
	m.Observe(&event.Event{Kind: event.KindLost, Lost: 12, Site: "alerts"})
	m.Tampered("pin", nil)
	m.Tampered("bpffs", errors.New("not mounted"))
	m.PolicyReloaded(nil)
	m.PolicyReloaded(errors.New("broken"))
	wantLines(t, scrape(t, m),
		`sallyport_judge_verdicts_total{call="connect",reason="rule",verdict="Deny"} 3`,
		`sallyport_gate_verdicts_total{reason="foreign",verdict="Drop"} 1`,
		`sallyport_tell_events_total{kind="connect"} 3`,
		`sallyport_tell_events_total{kind="exec"} 1`,
		`sallyport_tell_lost_events_total{site="alerts"} 12`,
		`sallyport_guard_tampering_total{restored="true",thing="pin"} 1`,
		`sallyport_guard_tampering_total{restored="false",thing="bpffs"} 1`,
		`sallyport_judge_policy_reloads_total 2`,
		`sallyport_judge_policy_reload_errors_total 1`,
		`sallyport_build_info{version="1.2.3"} 1`,
	)
}

func TestOtherPartsAreRead(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, Config{
		Sinks: func() []alert.Stats {
			return []alert.Stats{{Sink: "syslog", Queued: 3, Capacity: 10, Published: 9, Sent: 4, Lost: 2, Retries: 5, Down: true}}
		},
		Containers:   func() int { return 7 },
		Sessions:     func() int { return 2 },
		Revision:     func() uint64 { return 11 },
		Stale:        func() (time.Duration, bool) { return 1500 * time.Millisecond, true },
		KernelErrors: func() (map[string]uint64, error) { return map[string]uint64{"label_storage": 1}, nil },
	})
	wantLines(t, scrape(t, m),
		`sallyport_tell_sink_queued{sink="syslog"} 3`,
		`sallyport_tell_sink_queue_capacity{sink="syslog"} 10`,
		`sallyport_tell_sink_published_total{sink="syslog"} 9`,
		`sallyport_tell_sink_sent_total{sink="syslog"} 4`,
		`sallyport_tell_sink_lost_total{sink="syslog"} 2`,
		`sallyport_tell_sink_retries_total{sink="syslog"} 5`,
		`sallyport_tell_sink_down{sink="syslog"} 1`,
		`sallyport_kube_stale_seconds 1.5`,
		`sallyport_label_containers 7`,
		`sallyport_label_sessions 2`,
		`sallyport_judge_policy_revision 11`,
		`sallyport_kernel_errors_total{site="label_storage"} 1`,
	)
}

func TestSourceThatFailsHidesNoOther(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, Config{
		Revision:     func() uint64 { return 11 },
		KernelErrors: func() (map[string]uint64, error) { return nil, errors.New("no map") },
	})
	page := scrape(t, m)
	wantLines(t, page, `sallyport_judge_policy_revision 11`)
	if strings.Contains(page, "sallyport_kernel_errors_total{") {
		t.Error("kernel errors are shown though they could not be read")
	}
}

func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, Config{})
	for i := range 1000 {
		m.Observe(&event.Event{Kind: event.KindLost, Lost: 1, Site: fmt.Sprint("site", i)})
		m.Observe(&event.Event{Kind: event.Kind(i), Verdict: event.Verdict(i), Reason: event.Reason(i), Call: event.Call(i)})
	}
	m.Observe(&event.Event{Kind: event.KindLost, Lost: 1, Site: "a\nb"})
	page := scrape(t, m)
	if n := strings.Count(page, "sallyport_tell_lost_events_total{"); n != maxSites+1 {
		t.Errorf("%d series of sites, want %d", n, maxSites+1)
	}
	if n := strings.Count(page, "\nsallyport_"); n > 400 {
		t.Errorf("%d series", n)
	}
	wantLines(t, page, fmt.Sprintf(`sallyport_tell_lost_events_total{site="other"} %d`, 1000-maxSites+1))
}

func TestServe(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, Config{})
	if err := m.Serve(t.Context(), ""); err != nil {
		t.Errorf("off: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	if err := m.Serve(t.Context(), addr); err == nil {
		t.Error("an address that is taken is no error")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, addr) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	status := func(method, path string) int {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(request)
			if err == nil {
				_ = answer.Body.Close()
				return answer.StatusCode
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		method, path string
		want         int
	}{{"GET", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/debug/pprof/", 404}} {
		if got := status(test.method, test.path); got != test.want {
			t.Errorf("%s %s: status %d, want %d", test.method, test.path, got, test.want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
