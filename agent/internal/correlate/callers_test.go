package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
)

func TestSessionsGetTheUserWhoAskedForThem(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	at := time.Unix(1000, 0)
	call := func(id, user, container string, after time.Duration, args ...string) identity.Caller {
		return identity.Caller{ID: id, Time: at.Add(after), User: user, Namespace: "shop", Pod: "web", Container: container, Args: args}
	}
	for what, tc := range map[string]struct {
		calls []identity.Caller
		args  []string
		want  string
	}{
		"nobody called":                      {nil, []string{"sh"}, ""},
		"one":                                {[]identity.Caller{call("1", "alice", "app", -time.Second, "sh", "-c", "id")}, []string{"sh", "-c", "id"}, "alice"},
		"without a container":                {[]identity.Caller{call("1", "alice", "", 0, "sh")}, []string{"sh"}, "alice"},
		"into another container":             {[]identity.Caller{call("1", "alice", "other", 0, "sh")}, []string{"sh"}, ""},
		"of something else":                  {[]identity.Caller{call("1", "alice", "app", 0, "sh", "-x")}, []string{"sh"}, ""},
		"long ago":                           {[]identity.Caller{call("1", "alice", "app", -time.Minute, "sh")}, []string{"sh"}, ""},
		"told twice":                         {[]identity.Caller{call("1", "alice", "app", 0, "sh"), call("1", "alice", "app", 0, "sh")}, []string{"sh"}, "alice"},
		"two at once":                        {[]identity.Caller{call("1", "bob", "app", 0, "sh"), call("2", "alice", "app", 0, "sh")}, []string{"sh"}, "alice or bob"},
		"more arguments than the kernel has": {[]identity.Caller{call("1", "alice", "app", 0, "sh", "-c", long)}, []string{"sh", "-c", long[:argsKept-7]}, "alice"},
		"another that begins so":             {[]identity.Caller{call("1", "alice", "app", 0, "sh", "-c", "idx")}, []string{"sh", "-c", "id"}, ""},
	} {
		g := New(Config{Now: func() time.Time { return at }})
		g.Apply(identity.Change{Kind: identity.ContainerStarted, Container: identity.Container{
			ID: "c", Namespace: "k8s.io", Name: "app", CgroupID: 7, Pod: identity.Pod{Namespace: "shop", Name: "web"},
		}})
		for _, c := range tc.calls {
			g.Called(c)
		}
		subject := event.Subject{Container: 7, Session: 3, PID: 9}
		if got := g.Join(event.Event{Time: at, Kind: event.KindSessionStart, Subject: subject, Args: tc.args}).User; got != tc.want {
			t.Errorf("%s: the session is of %q, want %q", what, got, tc.want)
		}
		if got := g.Join(event.Event{Time: at, Kind: event.KindConnect, Subject: subject}).User; got != tc.want {
			t.Errorf("%s: a later event is of %q, want %q", what, got, tc.want)
		}
		g.Called(call("9", "eve", "app", 0, tc.args...))
		if got := g.Join(event.Event{Time: at, Kind: event.KindSessionEnd, Subject: subject}).User; tc.want != "" && got != tc.want {
			t.Errorf("%s: another's call makes it %q", what, got)
		}
	}
}
