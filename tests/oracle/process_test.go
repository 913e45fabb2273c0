package oracle

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/policy/policytest"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// room is a container with its callers: the first is Main, the others are Exec.
type room struct {
	id      uint64
	callers []*caller
}

// rooms makes four containers with three processes each, of paths that the random policies name.
func rooms(t *testing.T, node *pod.Node) (out []room) {
	t.Helper()
	paths := []string{"/usr/bin/curl", "/usr/bin/sh", "/bin/bash", "/bin/ash", "/app/a", "/app/b/c", "/opt/lib/x.so"}
	root := plant(t, paths)
	n := 0
	for i := range 4 {
		c := node.Container(t, fmt.Sprintf("room%d", i), 0)
		r, where := room{id: c.ID}, root
		for j := range 3 {
			caller := newCaller(t, c, where, paths[n%len(paths)])
			where = fmt.Sprintf("/proc/%d/ns/mnt", caller.pid)
			n++
			caller.process.Origin = policy.OriginExec
			if j == 0 {
				caller.process.Origin = policy.OriginMain
			}
			r.callers = append(r.callers, caller)
		}
		out = append(out, r)
	}
	return out
}

// listen hands over every event of a judged call.
func listen(t *testing.T, r func(tell.Handler) *tell.Reader) <-chan event.Event {
	t.Helper()
	events := make(chan event.Event, 64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	reader := r(func(e event.Event) {
		if e.Kind == event.KindConnect || e.Kind == event.KindListen || e.Kind == event.KindLost {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		}
	})
	go func() { done <- reader.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return events
}

// realCall turns a question of the generator into a call that a process can make here; ok is false
// where there is none.
func realCall(q policy.Call) (call policy.Call, ok bool) {
	q.Direction = policy.Egress
	if q.Protocol != unix.IPPROTO_TCP && q.Protocol != unix.IPPROTO_UDP || !q.Peer.IsValid() {
		return q, false
	}
	q.Peer = q.Peer.WithZone("")
	if q.Listen {
		if q.Port == 0 {
			return q, false // the bind of a client: not judged
		}
		q.Direction, q.Peer = policy.Ingress, netip.IPv4Unspecified()
	}
	return q, true
}

// told is the event of a caller's call as a decision.
func told(t *testing.T, events <-chan event.Event, c *caller, q policy.Call) compile.Decision {
	t.Helper()
	for {
		select {
		case e := <-events:
			if e.Kind == event.KindLost {
				t.Fatalf("%d lost at %s", e.Lost, e.Site)
			}
			if e.Subject.PID != c.pid {
				t.Fatalf("an event of process %d, not %d: %+v", e.Subject.PID, c.pid, e)
			}
			if e.Subject.Exe != c.process.Exe {
				t.Fatalf("the process %s is told to be %s", c.process.Exe, e.Subject.Exe)
			}
			return compile.Decision{Verdict: uint8(e.Verdict), Would: uint8(e.Would), Severity: uint8(e.Severity), Reason: uint8(e.Reason), Ref: e.Rule}
		case <-time.After(20 * time.Second):
			t.Fatalf("no event of the call of process %d: %+v", c.pid, q)
		}
	}
}

// withoutKill makes Kill a Deny: a caller has to live on.
func withoutKill(policies []*policy.Policy) {
	spare := func(v *policy.OnViolation) {
		if v != nil && v.Verdict == policy.VerdictKill {
			v.Verdict = policy.VerdictDeny
		}
	}
	for _, p := range policies {
		spare(p.Spec.OnViolation)
		for i := range p.Spec.Rules {
			r := &p.Spec.Rules[i]
			spare(r.OnViolation)
			if r.Action == policy.ActionKill {
				r.Action = policy.ActionDeny
			}
		}
	}
}

// wantErrno says whether a call may end with errno, judged as d.
func wantErrno(d match.Decision, errno syscall.Errno) bool {
	switch {
	case !d.Denies():
		return errno != unix.EPERM // no route, nobody there, …: the container has nothing but loopback
	case d.Verdict == policy.VerdictReset:
		return errno == unix.ECONNREFUSED
	}
	return errno == unix.EPERM
}

// TestRealCallsAreJudgedAsTheReference: LSM where the kernel has it (in the VM), else the cgroup step.
// Ingress has no call of its own (a peer's arrival is judged at the gate), so it is asked by bind.
func TestRealCallsAreJudgedAsTheReference(t *testing.T) {
	node := pod.NewNode(t)
	k := open(t, node)
	j := judge.Open(k)
	inForce(t, j, policy.Input{})
	if _, err := label.Attach(k); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach([]event.Step{event.StepLSM, event.StepCgroup}); err != nil {
		t.Fatal(err)
	}
	for _, h := range j.Hooks() {
		if testutil.InVM() && h.Step != event.StepLSM {
			t.Fatalf("hook %s has step %s: %v", h.Name, judge.StepName(h.Step), h.Refused)
		}
	}
	events := listen(t, func(h tell.Handler) *tell.Reader { return tell.NewReader(k, h) })
	all, o := rooms(t, node), oracle.New(t, k)
	calls, denied, seeds := 0, 0, uint64(60)
	if testutil.InVM() {
		seeds = 25
	}
	for seed := range seeds {
		c, err := policytest.Enforced(1000+seed, 16)
		if err != nil {
			t.Fatal(err)
		}
		withoutKill(c.Input.Policies)
		for i := range c.Input.Workloads {
			c.Input.Workloads[i].Key = all[i].id
		}
		inForce(t, j, c.Input)
		asked := map[string]bool{}
		for i, q := range c.Questions {
			at := int(seed+uint64(i)) % len(c.Input.Workloads)
			caller := all[at].callers[i%len(all[at].callers)]
			call, ok := realCall(q.Call)
			same := fmt.Sprint(caller.pid, call.Protocol, call.Direction, call.Canonical().Peer, call.Port, call.Listen)
			if !ok || asked[same] {
				continue // the same allowed call again is told once
			}
			asked[same] = true
			process := caller.process
			process.Workload = c.Input.Workloads[at]
			want, expected := reference(t, c.Input, policytest.Question{Process: process, Call: call}, false) // there is no gate
			o.Tell(t, all[at].id, call.Canonical().Peer, call.Names)
			errno := caller.make(t, call)
			got := told(t, events, caller, call)
			if diff := cmp.Diff(expected, got); diff != "" {
				t.Fatalf("seed %d, question %d: %+v\n%+v\nreference: %+v (-reference +event)\n%s", seed, i, process, call, want, diff)
			}
			if !wantErrno(want, errno) {
				t.Fatalf("seed %d, question %d: %s, and the call ended with %v", seed, i, want.Verdict, errno)
			}
			calls++
			if want.Denies() {
				denied++
			}
		}
	}
	t.Logf("%d calls, %d denied", calls, denied)
	if denied < calls/10 {
		t.Errorf("only %d of %d calls were denied: the comparison proves little", denied, calls)
	}
}
