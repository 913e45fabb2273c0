package ladder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// Rules by ids. Those that allow leave the rest of the network open to whom they do not govern.
const (
	allowUser   = "\n  rules: [{name: r, processes: [{users: [1000]}], egress: [{toCIDR: [SERVER4/32], toPorts: [{ports: [{port: \"OPEN\"}]}]}]}]\n"
	denyUser    = "\n  rules: [{name: r, processes: [{users: [1000]}], action: Deny}]\n"
	allowGroup  = "\n  rules: [{name: r, processes: [{groups: [5]}], egress: [{toCIDR: [SERVER4/32], toPorts: [{ports: [{port: \"OPEN\"}]}]}]}]\n"
	denyGroup   = "\n  rules: [{name: r, processes: [{groups: [5]}], action: Deny}]\n"
	denyNothing = "\n  rules: [{name: r, processes: [{binaries: [/nowhere]}], action: Deny}]\n"
)

// TestIDsAreThoseOfTheCall: a process is allowed something by all ids that it acts under, and denied, or
// governed, by any of them; those of the moment of the call, however it came to them.
func TestIDsAreThoseOfTheCall(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c := r.started(t, "web")
		for _, tc := range []struct{ rules, line, want string }{
			{allowUser, "setresuid 1000 1000 1000 -- connect-udp SERVER4 OPEN", "ok"},
			{allowUser, "setresuid 1000 1000 1000 -- connect-udp SERVER4 CLOSED", "EPERM"},
			{allowUser, "connect-udp SERVER4 CLOSED", "ok"}, // nothing governs root
			{allowUser, "setresuid 1000 0 0 -- connect-udp SERVER4 OPEN", "EPERM"},
			{allowUser, "setresuid 0 1000 0 -- connect-udp SERVER4 OPEN", "EPERM"},
			{allowUser, "setresuid 0 0 1000 -- connect-udp SERVER4 OPEN", "EPERM"},
			{allowUser, "setresuid 1000 1000 1000 fork -- connect-udp SERVER4 OPEN", "ok"},
			{allowUser, "setresuid 1000 1000 1000 exec-self -- connect-udp SERVER4 OPEN", "ok"},
			{denyUser, "connect-udp SERVER4 OPEN", "ok"},
			{denyUser, "setresuid 1000 0 0 -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyUser, "setresuid 0 1000 0 -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyUser, "setresuid 0 0 1000 -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyUser, "setresuid 0 0 1000 fork -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyUser, "setresuid 1000 1000 1000 unshare-user 7 -- connect-udp SERVER4 OPEN", "EPERM"}, // its own names count for nothing
			{denyUser, "setresuid 7 7 7 unshare-user 1000 -- connect-udp SERVER4 OPEN", "ok"},
			{allowGroup, "setresgid 5 5 5 -- connect-udp SERVER4 OPEN", "ok"},
			{allowGroup, "setresgid 5 0 5 -- connect-udp SERVER4 OPEN", "EPERM"},
			{allowGroup, "setgroups 5 1 -- connect-udp SERVER4 OPEN", "EPERM"}, // governed by it, allowed nothing
			{allowGroup, "setgroups 6 3 -- connect-udp SERVER4 CLOSED", "ok"},
			{denyGroup, "setgroups 0 0 -- connect-udp SERVER4 OPEN", "ok"},
			{denyGroup, "setgroups 0 7 -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyGroup, "setgroups 100 16 -- connect-udp SERVER4 OPEN", "ok"},
			{denyGroup, "setgroups 100 17 -- connect-udp SERVER4 OPEN", "EPERM"}, // more than a label holds: closed
			{denyGroup, "setresgid 0 0 5 -- connect-udp SERVER4 OPEN", "EPERM"},
			{denyNothing, "setresuid 1000 0 1000 -- connect-udp SERVER4 OPEN", "ok"},
		} {
			t.Run(tc.line, func(t *testing.T) {
				r.swap(t, tc.rules)
				if got := r.try(t, c, tc.line); got != tc.want {
					t.Errorf("got %s, want %s, under %s", got, tc.want, tc.rules)
				}
			})
		}
	})
}

// TestIDsCountWhenTheyChange: what was allowed to a connection under other ids is judged again.
func TestIDsCountWhenTheyChange(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		if step == event.StepCgroup {
			return // it does not see sends on a connection: they are judged by who made the socket
		}
		r := newRig(t, step)
		c := r.started(t, "web")
		r.swap(t, denyUser)
		r.expect(t, c, "send-as SERVER4 OPEN 1000", "EPERM")
		r.expect(t, c, "send-as SERVER4 OPEN 1001", "ok")
	})
}

// TestIDsOfAUserNamespace: policies name ids as the container calls them, whatever they are on the node.
func TestIDsOfAUserNamespace(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	c := r.container(t, "web")
	reachable(t, r.program)
	run := func(line string) string {
		p := r.victim(c, line)
		p.UserNS = &pod.UserNS{First: 100_000, Count: 2000}
		p.Start(t)
		return outcome(t, p)
	}
	if got := run("socket unix stream"); got != "ok" {
		t.Fatalf("starting the container: %s", got)
	}
	for _, tc := range []struct{ rules, line, want string }{
		{allowUser, "setresuid 1000 1000 1000 -- connect-udp SERVER4 OPEN", "ok"},
		{allowUser, "setresuid 1000 1000 1000 -- connect-udp SERVER4 CLOSED", "EPERM"},
		{allowUser, "connect-udp SERVER4 CLOSED", "ok"},
		{denyUser, "connect-udp SERVER4 OPEN", "ok"},
		{denyUser, "setresuid 0 0 1000 -- connect-udp SERVER4 OPEN", "EPERM"},
		{denyUser, "setresuid 1000 1000 1000 unshare-user 7 -- connect-udp SERVER4 OPEN", "EPERM"},
		{denyGroup, "setresgid 5 0 0 -- connect-udp SERVER4 OPEN", "EPERM"},
		{denyGroup, "setgroups 4 2 -- connect-udp SERVER4 OPEN", "EPERM"},
		{denyGroup, "setgroups 6 2 -- connect-udp SERVER4 OPEN", "ok"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			r.swap(t, tc.rules)
			if got := run(tc.line); got != tc.want {
				t.Errorf("got %s, want %s, under %s", got, tc.want, tc.rules)
			}
		})
	}
	// A process of the node that comes in has no id that the namespace has a number for.
	r.swap(t, denyUser)
	p := r.victim(c, "connect-udp SERVER4 OPEN")
	p.UserNS = &pod.UserNS{First: 500_000, Count: 2000}
	p.Start(t)
	if got := outcome(t, p); got != "EPERM" {
		t.Errorf("whose ids cannot be told got %s, want EPERM", got)
	}
}

// reachable lets users of no rights execute a file in a test's temporary directory.
func reachable(t *testing.T, file string) {
	t.Helper()
	for dir := filepath.Dir(file); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
