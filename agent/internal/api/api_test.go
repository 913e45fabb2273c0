package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source answers with what it is.
type source struct{ answer *apiv1.StatusResponse }

func (s source) Status(context.Context) (*apiv1.StatusResponse, error) {
	if s.answer == nil {
		return nil, errors.New("reading the maps: boom")
	}
	return s.answer, nil
}

func config(t *testing.T) Config {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	return Config{
		Socket: filepath.Join(t.TempDir(), "run", "a.sock"), UID: uint32(os.Geteuid()),
		Status: source{}, Events: NewFeed(), Log: log,
	}
}

// start runs a server and connects to it.
func start(t *testing.T, cfg Config) *Client {
	t.Helper()
	server, err := Listen(cfg)
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
	client, err := Dial(t.Context(), cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestSocketIsPrivate(t *testing.T) {
	cfg := config(t)
	start(t, cfg)
	for path, want := range map[string]os.FileMode{cfg.Socket: 0o600, filepath.Dir(cfg.Socket): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
	}
}

func TestLiveSocketIsBusy(t *testing.T) {
	cfg := config(t)
	start(t, cfg)
	if _, err := Listen(cfg); !errors.Is(err, ErrBusy) {
		t.Errorf("a second agent: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(filepath.Dir(cfg.Socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := Dial(t.Context(), cfg.Socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dialling a dead agent: %v", err)
	}
	if _, err := start(t, cfg).Version(t.Context(), &apiv1.VersionRequest{}); err != nil {
		t.Error(err)
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	cfg := config(t)
	cfg.Socket = filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(cfg.Socket, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(cfg); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(cfg.Socket); err != nil {
		t.Error(err)
	}
}

func TestOnlyOneUserMayCall(t *testing.T) {
	cfg := config(t)
	cfg.UID = uint32(os.Geteuid()) + 1
	var log bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&log)
	cfg.Log = logger
	client := start(t, cfg)
	if _, err := client.Version(t.Context(), &apiv1.VersionRequest{}); err == nil {
		t.Error("another user was served")
	}
}

func TestNoAgent(t *testing.T) {
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestStatus(t *testing.T) {
	cfg := config(t)
	cfg.Status = source{&apiv1.StatusResponse{
		Kernel:    "6.12",
		Workloads: []*apiv1.Workload{{Name: "shop/\xff"}},
		Policies:  []*apiv1.Policy{{Workloads: []string{"a\xffb"}}},
	}}
	got, err := start(t, cfg).Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetKernel() != "6.12" || got.GetWorkloads()[0].GetName() != "shop/\uFFFD" || got.GetPolicies()[0].GetWorkloads()[0] != "a\uFFFDb" {
		t.Errorf("got %v", got)
	}
}

func TestStatusError(t *testing.T) {
	_, err := start(t, config(t)).Status(t.Context(), &apiv1.StatusRequest{})
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

// record is a connect to a peer that got a verdict.
func record(at time.Time, pod string, verdict event.Verdict) *alert.Record {
	return &alert.Record{
		Namespace: "shop", Pod: pod, Container: "app", Workload: "shop/" + pod,
		Event: event.Event{
			Time: at, Kind: event.KindConnect, Verdict: verdict, Remote: netip.MustParseAddrPort("192.0.2.1:443"),
			Subject: event.Subject{Origin: event.OriginExec, Exe: "/bin/sh"},
		},
	}
}

func TestObserve(t *testing.T) {
	cfg := config(t)
	old := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	cfg.Events.Publish(record(old, "before", event.VerdictDeny))
	cfg.Events.Publish(record(old.Add(time.Hour), "kept", event.VerdictDeny))
	cfg.Events.Publish(record(old.Add(time.Hour), "kept", event.VerdictAllow))
	client := start(t, cfg)
	stream, err := client.Observe(t.Context(), &apiv1.ObserveRequest{Verdicts: []string{"Deny"}})
	if err != nil {
		t.Fatal(err)
	}
	var pods []string
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, got.GetEvent().GetPod())
	}
	if diff := cmp.Diff([]string{"before", "kept"}, pods); diff != "" {
		t.Errorf("kept events (-want +got):\n%s", diff)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err = client.Observe(ctx, &apiv1.ObserveRequest{Follow: true, Pods: []string{"new"}})
	if err != nil {
		t.Fatal(err)
	}
	for len(observers(cfg.Events)) == 0 {
		time.Sleep(time.Millisecond)
	}
	cfg.Events.Publish(record(old, "other", event.VerdictDeny))
	cfg.Events.Publish(record(old, "new", event.VerdictDeny))
	got, err := stream.Recv()
	if err != nil || got.GetEvent().GetPod() != "new" {
		t.Errorf("got %v, %v", got, err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after the end: %v", err)
	}
}

func observers(f *Feed) map[*observer]struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[*observer]struct{}{}
	for o := range f.observers {
		out[o] = struct{}{}
	}
	return out
}

func TestBadFilters(t *testing.T) {
	client := start(t, config(t))
	for name, req := range map[string]*apiv1.ObserveRequest{
		"origin":  {Origins: []string{"main"}},
		"verdict": {Verdicts: []string{"Refuse"}},
		"kind":    {Kinds: []string{"dance"}},
		"binary":  {Binaries: []string{"/bin/[a"}},
		"peer":    {Peers: []string{"10.0.0.0/33"}},
	} {
		stream, err := client.Observe(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an observer does not take is counted and told, and everything is one or the other.
func TestSlowObserver(t *testing.T) {
	feed := NewFeed()
	match := func(*alert.Record) bool { return true }
	o := feed.observe(match)
	defer feed.leave(o)
	const sent = observeQueue + 123
	for range sent {
		feed.Publish(record(time.Time{}, "p", event.VerdictAllow))
	}
	if got := uint64(len(o.queue)) + o.lost.Load(); got != sent || o.lost.Load() != 123 {
		t.Errorf("%d queued, %d lost, of %d", len(o.queue), o.lost.Load(), sent)
	}
}

func TestSlowCallerIsTold(t *testing.T) {
	cfg := config(t)
	client := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.Observe(ctx, &apiv1.ObserveRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for len(observers(cfg.Events)) == 0 {
		time.Sleep(time.Millisecond)
	}
	const sent = 20 * observeQueue
	for range sent {
		cfg.Events.Publish(record(time.Time{}, strings.Repeat("p", 200), event.VerdictAllow))
	}
	var events, lost uint64
	for events+lost < sent {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetEvent() != nil {
			events++
		}
		lost += got.GetLost()
	}
	if lost == 0 || events == 0 {
		t.Errorf("%d events, %d lost", events, lost)
	}
}

func TestTrafficDoesNotDisplaceAlerts(t *testing.T) {
	feed := NewFeed()
	feed.Publish(record(time.Time{}, "denied", event.VerdictDeny))
	for range 3 * keptTraffic {
		feed.Publish(record(time.Time{}, "traffic", event.VerdictAllow))
	}
	o := feed.observe(func(*alert.Record) bool { return true })
	defer feed.leave(o)
	if len(o.backlog) != keptTraffic+1 || o.backlog[0].Pod != "denied" {
		t.Errorf("%d kept, the first of %s", len(o.backlog), o.backlog[0].Pod)
	}
}

func TestFilter(t *testing.T) {
	r := record(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "checkout-1", event.VerdictDeny)
	r.Event.Subject.Script = "/app/run.sh"
	for name, test := range map[string]struct {
		req  *apiv1.ObserveRequest
		want bool
	}{
		"nothing asked": {&apiv1.ObserveRequest{}, true},
		"one of":        {&apiv1.ObserveRequest{Pods: []string{"a", "checkout-1"}}, true},
		"and":           {&apiv1.ObserveRequest{Pods: []string{"checkout-1"}, Namespaces: []string{"other"}}, false},
		"origin":        {&apiv1.ObserveRequest{Origins: []string{"Exec"}}, true},
		"container":     {&apiv1.ObserveRequest{Containers: []string{"sidecar"}}, false},
		"kind":          {&apiv1.ObserveRequest{Kinds: []string{"exec"}}, false},
		"binary":        {&apiv1.ObserveRequest{Binaries: []string{"/bin/*"}}, true},
		"script":        {&apiv1.ObserveRequest{Binaries: []string{"/app/**"}}, true},
		"other binary":  {&apiv1.ObserveRequest{Binaries: []string{"/usr/**"}}, false},
		"peer":          {&apiv1.ObserveRequest{Peers: []string{"192.0.2.0/24"}}, true},
		"address":       {&apiv1.ObserveRequest{Peers: []string{"::ffff:192.0.2.1"}}, true},
		"other peer":    {&apiv1.ObserveRequest{Peers: []string{"2001:db8::/32"}}, false},
	} {
		match, err := newFilter(test.req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if match(r) != test.want {
			t.Errorf("%s: got %t", name, !test.want)
		}
	}
}

// Every field of a record must come back, so every field is set here, found by reflection.
func TestRecordsComeBack(t *testing.T) {
	var want alert.Record
	fill(reflect.ValueOf(&want).Elem())
	want.Event.Subject.Exe = "/bin/\xff\x1b[2J"
	want.Event.Args = []string{"a\x00b", "\xfe"}
	want.Event.Unit = false // such events end in the engine
	want.Event.Socket = 0   // is for the agent
	want.Event.Asked = 0    // the same
	got := ToRecord(fromRecord(&want))
	if diff := cmp.Diff(&want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = alert.Record{Event: event.Event{Time: time.Unix(1, 0).UTC()}}
	if diff := cmp.Diff(&want, ToRecord(fromRecord(&want)), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("an empty record (-want +got):\n%s", diff)
	}
}

func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)))
		return
	case time.Duration:
		v.Set(reflect.ValueOf(time.Millisecond))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("[2001:db8::1]:443")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(-3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	default:
		panic("a kind that fill does not know: " + v.Type().String())
	}
}

func TestBuild(t *testing.T) {
	b := Build()
	if !strings.HasPrefix(b.GetGo(), "go1.") || b.GetPlatform() == "" || b.GetVersion() == "" {
		t.Errorf("got %v", b)
	}
}

// governor governs what is called good, and waits for ever with the rest.
type governor struct{}

func (governor) Govern(ctx context.Context, req *apiv1.GovernRequest) (*apiv1.GovernResponse, error) {
	switch req.GetId() {
	case "good":
		return &apiv1.GovernResponse{Revision: 7, Governed: true}, nil
	case "broken":
		return nil, errors.New("locating it")
	}
	<-ctx.Done()
	return nil, fmt.Errorf("waiting: %w", ctx.Err())
}

func TestGovern(t *testing.T) {
	cfg := config(t)
	cfg.Governor = governor{}
	client := start(t, cfg)
	answer, err := client.Govern(t.Context(), &apiv1.GovernRequest{Id: "good", Pid: 1})
	if err != nil || answer.GetRevision() != 7 || !answer.GetGoverned() {
		t.Errorf("got %v, %v", answer, err)
	}
	for name, tc := range map[string]struct {
		req  *apiv1.GovernRequest
		code codes.Code
	}{
		"no id":      {&apiv1.GovernRequest{Pid: 1}, codes.InvalidArgument},
		"a long id":  {&apiv1.GovernRequest{Id: strings.Repeat("x", 2000), Pid: 1}, codes.InvalidArgument},
		"no process": {&apiv1.GovernRequest{Id: "good"}, codes.InvalidArgument},
		"broken":     {&apiv1.GovernRequest{Id: "broken", Pid: 1}, codes.FailedPrecondition},
		"late":       {&apiv1.GovernRequest{Id: "late", Pid: 1}, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := client.Govern(ctx, tc.req); status.Code(err) != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
		})
	}
}

func TestGovernByNobody(t *testing.T) {
	client := start(t, config(t))
	if _, err := client.Govern(t.Context(), &apiv1.GovernRequest{Id: "good", Pid: 1}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want Unimplemented", err)
	}
}
