package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/agent/internal/api"
	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
)

// result is what a command wrote, and its exit code.
type result struct {
	code     int
	out, err string
}

// execute runs a command line on parts that fail unless they are set.
func execute(t *testing.T, p Program, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	p.Stdout, p.Stderr = &out, &errs
	code := p.Execute(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

func TestRunGetsTheConfiguration(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("run refuses everybody but root before it calls anything; TestNotRoot covers that")
	}
	var got config.Config
	p := Program{Run: func(_ context.Context, cfg config.Config, log logrus.FieldLogger) error {
		got = cfg
		log.Info("running")
		return fmt.Errorf("opening the API: %w", api.ErrBusy)
	}}
	r := execute(t, p, "run", "--config", os.DevNull, "--pin-dir", "other", "--log-format", "json")
	if got.Kernel.PinDir != "other" || got.Log.Format != config.FormatJSON {
		t.Errorf("got %+v", got)
	}
	if r.code != exitBusy || !strings.Contains(r.err, `"message":"running"`) || !strings.Contains(r.err, "sallyport: opening the API: another agent has it; end it") {
		t.Errorf("got %+v", r)
	}
}

func TestCleanup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("run refuses everybody but root before it calls anything; TestNotRoot covers that")
	}
	p := Program{Cleanup: func(config.Config, logrus.FieldLogger) (int, error) { return 2, nil }}
	if r := execute(t, p, "run", "--config", os.DevNull, "--cleanup"); r.code != exitOK || !strings.HasPrefix(r.out, "removed 2 pins") {
		t.Errorf("got %+v", r)
	}
}

func TestNotRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("is root; tests/script covers this with a user of its own")
	}
	for _, command := range []string{"run", "demo"} {
		if r := execute(t, Program{}, command, "--config", os.DevNull); r.code != exitNotPermitted || !strings.Contains(r.err, "run it as root") {
			t.Errorf("%s: got %+v", command, r)
		}
	}
}

// agent serves the API with what it is given.
type agent struct{ answer *apiv1.StatusResponse }

func (a agent) Status(context.Context) (*apiv1.StatusResponse, error) { return a.answer, nil }

func serve(t *testing.T, a agent, feed *api.Feed) (socket string) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	socket = filepath.Join(t.TempDir(), "s")
	server, err := api.Listen(api.Config{Socket: socket, UID: uint32(os.Geteuid()), Status: a, Events: feed, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

const hostile = "pod\x1b[2J\n\u202eevil"

func TestStatus(t *testing.T) {
	socket := serve(t, agent{&apiv1.StatusResponse{
		Agent: &apiv1.VersionResponse{Version: "v1"}, Kernel: "6.12.0", Uptime: durationpb.New(90 * time.Second), Revision: 7,
		Hooks: []*apiv1.Hook{
			{Name: "connect", Step: "cgroup", Program: "judge_connect4", State: apiv1.HookState_HOOK_STATE_ATTACHED, DoesNotStop: "raw sockets"},
			{Name: "packet", State: apiv1.HookState_HOOK_STATE_OFF},
		},
		Policies:  []*apiv1.Policy{{Name: "shop/checkout", Mode: "Enforce", File: "shop.yaml", Workloads: []string{"a", "b"}, Error: "shop.yaml:3:1: bad"}},
		Workloads: []*apiv1.Workload{{Name: hostile, Container: "app", Governed: true, Ruleset: 3, Provisional: true}},
		Losses:    []*apiv1.Counter{{Site: "flows", Count: 12}, {Site: "quiet"}},
	}}, api.NewFeed())
	got := execute(t, Program{}, "status", "--config", os.DevNull, "--socket", socket, "-o", "columns")
	want := `agent     v1, up 1m30s
kernel    6.12.0
programs  loaded afresh
revision  7

HOOK     STEP    STATE     PROGRAM         DOES NOT STOP
connect  cgroup  attached  judge_connect4  raw sockets
packet   -       off       -               -

POLICY         MODE     WORKLOADS  FILE
shop/checkout  Enforce  2          shop.yaml
  error: shop.yaml:3:1: bad

WORKLOAD                CONTAINER  GOVERNED  RULESET  GATE  NOTE
pod\x1b[2J\n\u202eevil  app        yes       3        -     known by its cgroup only

LOST EVENTS  COUNT
flows        12
`
	if diff := cmp.Diff(result{exitOK, want, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	piped := execute(t, Program{}, "status", "--config", os.DevNull, "--socket", socket)
	var answer struct {
		Hooks    []struct{ Name, State string }
		Adopted  *bool
		Revision string
	}
	if err := json.Unmarshal([]byte(piped.out), &answer); err != nil || strings.Count(piped.out, "\n") != 1 {
		t.Fatalf("not one line of JSON: %v in %q", err, piped.out)
	}
	if len(answer.Hooks) != 2 || answer.Hooks[0].Name != "connect" || answer.Revision != "7" || answer.Adopted == nil {
		t.Errorf("got %s", piped.out)
	}
}

func TestObserve(t *testing.T) {
	feed := api.NewFeed()
	socket := serve(t, agent{}, feed)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.Local)
	for i, verdict := range []event.Verdict{event.VerdictDeny, event.VerdictAllow} {
		feed.Publish(&alert.Record{
			Workload: hostile, Namespace: "shop",
			Event: event.Event{
				Time: at.Add(time.Duration(i) * time.Second), Kind: event.KindConnect, Call: event.CallConnect, Verdict: verdict,
				Remote: netip.MustParseAddrPort("192.0.2.1:443"), Subject: event.Subject{Exe: "/bin/sh"},
			},
		})
	}
	args := []string{"observe", "--config", os.DevNull, "--socket", socket}
	got := execute(t, Program{}, append(args, "-o", "columns", "--verdict", "Deny")...)
	if got.code != exitOK || strings.Count(got.out, "\n") != 1 || !strings.HasPrefix(got.out, `03:04:05.006 Deny          pod\x1b[2J\n\u202eevil `) ||
		!strings.Contains(got.out, "192.0.2.1:443") {
		t.Errorf("columns: %+v", got)
	}
	got = execute(t, Program{}, append(args, "--namespace", "shop")...)
	var verdicts []string
	for line := range strings.Lines(got.out) {
		var e struct{ Verdict, Workload, Message string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Message == "" {
			t.Fatalf("%v in %q", err, line)
		}
		verdicts = append(verdicts, e.Verdict)
	}
	if diff := cmp.Diff([]string{"Deny", "Allow"}, verdicts); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if got := execute(t, Program{}, append(args, "--verdict", "Refuse")...); got.code != exitUsage || !strings.Contains(got.err, `"Refuse" is none of Allow`) {
		t.Errorf("a bad filter: %+v", got)
	}
}

func TestStartOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		since  string
		follow bool
		want   time.Time
		bad    bool
	}{
		{since: "", want: time.Time{}},
		{since: "", follow: true, want: now},
		{since: "10m", want: now.Add(-10 * time.Minute)},
		{since: "2026-01-01T00:00:00+01:00", want: time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC)},
		{since: "-5m", bad: true},
		{since: "yesterday", bad: true},
	} {
		got, err := startOf(test.since, test.follow, now)
		if !got.Equal(test.want) || (err != nil) != test.bad {
			t.Errorf("--since %q: got %s, %v", test.since, got, err)
		}
		var usage usageError
		if test.bad && !errors.As(err, &usage) {
			t.Errorf("--since %q: %v is no usage error", test.since, err)
		}
	}
}

func TestErrorsShowNoControlCharacters(t *testing.T) {
	r := execute(t, Program{}, "policy", "check", "/none\x1b[2J\nsallyport: all is well")
	if r.code != exitError || strings.Contains(r.err, "\x1b") {
		t.Errorf("got %+v", r)
	}
	if got := visible(`C:\path "quoted" é`); got != `C:\path "quoted" é` {
		t.Errorf("what can be shown was changed: %s", got)
	}
	if got := visible("a\x1b\\b"); got != `a\x1b\\b` {
		t.Errorf("got %s", got)
	}
}

func TestExamplesAreSelected(t *testing.T) {
	policies, err := policy.Parse("p.yaml", []byte(`
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: a}
    matchExpressions: [{key: tier, operator: In, values: [x, y]}, {key: on, operator: Exists}, {key: off, operator: DoesNotExist}]
  rules:
  - {name: r, processes: [{containers: [db, "web-*"]}], action: Deny}
---
apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: c}
spec:
  podSelector: {}
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [ops]}, {key: team, operator: Exists}]}
  serviceAccounts: [ops/robot]
  rules: [{action: Deny}]
---
apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: d}
spec: {podSelector: {}, namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [ops]}]}, rules: [{action: Deny}]}
---
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata: {name: h}
spec: {hostSelector: {units: ["ssh*.service"], cgroups: [/system.slice/**]}, rules: [{action: Deny}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	var containers []string
	selected := map[string]bool{}
	for _, w := range examples(policies) {
		for _, p := range policies {
			selected[p.Name()] = selected[p.Name()] || p.Selects(&w)
		}
		if w.Namespace == "shop" {
			containers = append(containers, w.Container)
		}
	}
	for _, p := range policies {
		if !selected[p.Name()] {
			t.Errorf("%s selects no example", p.Name())
		}
	}
	if diff := cmp.Diff([]string{"app", "db", "web-*"}, containers); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
}
