package ladder

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// attempt is one way to the network and what must become of it.
type attempt struct {
	line     string
	contacts int    // how often the server on openPort is reached when it goes well
	shell    string // an Exec session under a Deny rule gets this: "" is EPERM
	main     string // Main, which may reach the server on openPort, gets this: "" is what an ungoverned process gets
	free     string // an ungoverned process gets this: "" is ok; anything: whatever the kernel says, but not EPERM
	weak     weak   // how the cgroup step differs
}

const anything = "anything"

// weak is what a step does not stop as a call.
type weak struct {
	hook, says string // where status says so
	dropped    string // not empty: the first packet is denied, and this is what the caller gets
}

// attempts is every attempt of the victim.
func attempts() []attempt {
	packets := weak{hook: "create", says: "packet sockets"}
	families := weak{hook: "create", says: "not IP"}
	return []attempt{
		{line: "connect-tcp SERVER4 OPEN", contacts: 1},
		{line: "connect-tcp SERVER6 OPEN", contacts: 1},
		{line: "connect-tcp ::ffff:SERVER4 OPEN", contacts: 1},
		{line: "nonblock-tcp SERVER4 OPEN", contacts: 1},
		{line: "fastopen SERVER4 OPEN", contacts: 1},
		{line: "fastopen SERVER6 OPEN", contacts: 1},
		{line: "fastopen-connect SERVER4 OPEN", contacts: 1},
		{line: "fastopen-connect SERVER6 OPEN", contacts: 1},
		{line: "connect-udp SERVER4 OPEN 3000", contacts: 1},
		{line: "connect-udp SERVER6 OPEN 3000", contacts: 1},
		{line: "sendto-udp SERVER4 OPEN 3000", contacts: 1},
		{line: "sendto-udp SERVER6 OPEN 3000", contacts: 1},
		{line: "sendto-udp ::ffff:SERVER4 OPEN 3000", contacts: 1},
		{line: "sendmsg-udp SERVER4 OPEN 3000", contacts: 1},
		{line: "sendmsg-udp SERVER6 OPEN 3000", contacts: 1},
		{line: "sendmmsg-udp SERVER4 OPEN 3000", contacts: 2},
		{line: "sendmmsg-udp SERVER6 OPEN 3000", contacts: 2},
		{line: "udp-unspec SERVER4 OPEN 3000", contacts: 1},
		{line: "uring-connect SERVER4 OPEN", contacts: 1},
		{line: "uring-connect-async SERVER4 OPEN", contacts: 1},
		{line: "uring-connect-sqpoll SERVER4 OPEN", contacts: 1},
		{line: "uring-connect SERVER6 OPEN", contacts: 1},
		{line: "ping SERVER4"},
		{line: "ping SERVER6", weak: weak{hook: "sendmsg", says: "ping", dropped: "ETIMEDOUT"}},
		{line: "ping-raw SERVER4"},
		{line: "ping-raw SERVER6"},
		// Sockets that can reach everybody need a rule for everybody.
		{line: "raw-udp SERVER4 OPEN POD4", contacts: 1, main: "EPERM"},
		{line: "raw-udp SERVER6 OPEN POD6", contacts: 1, main: "EPERM"},
		{line: "packet eth0 SERVER4 OPEN POD4 MAC", contacts: 1, main: "EPERM", weak: packets},
		{line: "packet eth0 SERVER6 OPEN POD6 MAC", contacts: 1, main: "EPERM", weak: packets},
		{line: "socket packet dgram", main: "EPERM", weak: packets},
		{line: "socket inet raw gre", main: "EPERM"},
		{line: "socket inet6 raw raw", main: "EPERM"},
		{line: "socket vsock stream", main: "EPERM", free: anything, weak: families},
		{line: "socket key raw 2", main: "EPERM", free: anything, weak: families},
		{line: "socket inet stream mptcp", main: "EPROTONOSUPPORT", shell: "EPROTONOSUPPORT", free: anything},
		{line: "socket inet6 stream mptcp", main: "EPROTONOSUPPORT", shell: "EPROTONOSUPPORT", free: anything},
		// The pod's own loopback: closed by Deny, open for whom only rules with peers select.
		{line: "connect-tcp 0.0.0.0 LOCAL"},
		{line: "connect-tcp :: LOCAL"},
		{line: "connect-tcp 127.0.0.1 LOCAL"},
		{line: "sendto-udp 0.0.0.0 LOCAL 3000"},
		{line: "bind-tcp 0.0.0.0 4001"},
		{line: "bind-tcp :: 4002"},
		{line: "bind-tcp POD4 0", shell: "ok"}, // as clients do
		{line: "listen-tcp POD4 4000"},
		{line: "listen-tcp POD4 0", weak: weak{hook: "listen", says: "kernel chose"}},
		{line: "listen-only", weak: weak{hook: "listen", says: "kernel chose"}},
		// What does not leave the node, or has no peer.
		{line: "unix-connect @ladder", shell: "ok"},
		{line: "socket unix stream", shell: "ok"},
		{line: "socket netlink raw", shell: "ok"},
		{line: "socket alg seqpacket", shell: anything, free: anything},
		{line: "connect-unspec", shell: "ok"},
	}
}

const webPolicy = `
  rules:
  - name: web
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [SERVER4/32, SERVER6/128]
      toPorts: [{ports: [{port: "OPEN", protocol: TCP}, {port: "OPEN", protocol: UDP}, {port: "OPEN", protocol: SCTP}, {protocol: ICMP}, {protocol: ICMPv6}]}]
    onViolation: {alert: warning}
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
    onViolation: {verdict: Deny, alert: critical}
`

func TestAttempts(t *testing.T) {
	onEachStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		free := newFreePod(t, r)
		all := slices.Concat(attempts(), r.sctpAttempts(t, free))
		containers := make([]*pod.Container, len(all))
		for i := range all {
			containers[i] = r.container(t, "web")
		}
		plain := r.started(t, "")
		rules := r.swap(t, webPolicy).Rulesets[1].Rules
		for _, p := range []*testutil.NetNS{r.net.Pod, free.net.Pod} {
			listenAbstract(t, p)
		}
		if step == event.StepReport {
			for _, h := range slices.Concat(r.judge.Hooks(), r.gate.Hooks()[1:]) {
				if h.Name == "exec" || h.Name == "ktls" || h.Name == hookUnix {
					continue // judges nothing
				}
				if !slices.ContainsFunc(h.NotStopped, func(s string) bool { return strings.HasPrefix(s, "anything") }) {
					t.Errorf("hook %s does not say that it stops nothing: %q", h.Name, h.NotStopped)
				}
			}
		}
		for i, a := range all {
			t.Run(a.line, func(t *testing.T) {
				want := free.check(t, &a)
				r.checkMain(t, &a, containers[i], want)
				r.checkShell(t, &a, containers[i], plain, want)
				r.checkEvent(t, &a, containers[i], rules)
			})
		}
	})
}

// freePod is a second pod that nothing governs, to see that an attempt works at all.
type freePod struct {
	*rig
	container *pod.Container
}

func newFreePod(t *testing.T, r *rig) *freePod {
	t.Helper()
	other := *r
	f := &freePod{rig: &other}
	f.net = testutil.NewNet(t, testutil.NetOptions{})
	f.prepareNet(t)
	f.container = f.Container(t, "free", f.ns)
	r.workloads = append(r.workloads, compile.Workload{Key: f.container.ID, Namespace: policy.DefaultNamespace, Container: "free"})
	return f
}

// listenAbstract listens on @ladder in the namespace's abstract unix sockets.
func listenAbstract(t *testing.T, in *testutil.NetNS) {
	t.Helper()
	var l net.Listener
	in.Do(t, func() (err error) {
		l, err = net.Listen("unix", "@ladder") // ends with the test
		return err
	})
	t.Cleanup(func() { _ = l.Close() }) // read by nobody
}

// check tries the attempt where nothing is governed and returns what became of it.
func (f *freePod) check(t *testing.T, a *attempt) string {
	t.Helper()
	f.open.Reset()
	got := f.try(t, f.container, a.line)
	switch {
	case strings.HasPrefix(a.line, "uring-") && (got == "ENOSYS" || got == "EPERM"):
		testutil.Unsupported(t, "io_uring", got)
	case a.free == anything && got != "EPERM":
	case got != "ok":
		t.Errorf("ungoverned: %s, want ok: the attempt itself does not work", got)
	}
	expectContacts(t, f.open, a.contacts)
	return got
}

// checkMain tries the attempt as Main, which may reach the server.
func (r *rig) checkMain(t *testing.T, a *attempt, c *pod.Container, free string) {
	t.Helper()
	r.events.Reset()
	r.open.Reset()
	want, contacts := a.main, 0
	if want == "" || r.step == event.StepReport || r.passesCall(a) {
		want = free
	}
	if want == "ok" && (a.main == "" || r.step == event.StepReport) {
		contacts = a.contacts
	}
	if got := r.try(t, c, a.line); got != want {
		t.Errorf("Main got %s, want %s", got, want)
	}
	expectContacts(t, r.open, contacts)
}

// passesCall says whether the step stops nothing of the attempt, neither the call nor, by its socket, a packet.
func (r *rig) passesCall(a *attempt) bool {
	return r.step == event.StepCgroup && a.weak.hook != "" && a.weak.dropped == ""
}

// checkShell tries the attempt as a session that a rule denies everything.
func (r *rig) checkShell(t *testing.T, a *attempt, c, plain *pod.Container, free string) {
	t.Helper()
	r.open.Reset()
	want, contacts := a.shell, 0
	if want == "" {
		want = "EPERM"
	}
	switch {
	case r.step == event.StepReport:
		want, contacts = free, a.contacts
	case want == anything:
		want = free
	case r.step == event.StepCgroup && a.weak.hook != "":
		want = free
		if a.weak.dropped != "" {
			want = a.weak.dropped
		}
		if !slices.ContainsFunc(r.hook(t, a.weak.hook).NotStopped, func(s string) bool { return strings.Contains(s, a.weak.says) }) {
			t.Errorf("hook %s does not say that it does not stop this: %q", a.weak.hook, r.hook(t, a.weak.hook).NotStopped)
		}
	}
	if got := r.try(t, c, a.line); got != want {
		t.Errorf("the session got %s, want %s", got, want)
	}
	// A datagram of somebody who may send one comes after all that the session has sent.
	if got := r.try(t, plain, "sendto-udp SERVER4 OPEN 3000"); got != "ok" {
		t.Errorf("the datagram that closes the attempt: %s", got)
	}
	expectContacts(t, r.open, contacts+1)
}

// expectContacts waits until a server was reached so often, and says if it was reached more.
func expectContacts(t *testing.T, e *testutil.Echo, want int) {
	t.Helper()
	testutil.Eventually(t, "the server's contacts", func() error {
		if got := len(e.Contacts()); got < want {
			return fmt.Errorf("%d, want %d", got, want)
		}
		return nil
	})
	if got := e.Contacts(); len(got) != want {
		t.Errorf("the server was reached %d times, want %d: %v", len(got), want, got)
	}
}

// checkEvent looks for what the kernel told of the session's attempt.
func (r *rig) checkEvent(t *testing.T, a *attempt, c *pod.Container, rules []compile.Rule) {
	t.Helper()
	refused := a.shell == "EPROTONOSUPPORT"
	if a.shell != "" && !refused || r.step == event.StepReport && refused {
		return // nothing was denied
	}
	if r.passesCall(a) {
		if a.contacts > 0 {
			r.events.Wait(t, "a foreign packet", func(e event.Event) bool { return e.Kind == event.KindForeign && e.NetNS == r.veth.NetNS })
		}
		return
	}
	verdict, would := event.VerdictDeny, event.VerdictNone
	if r.step == event.StepReport {
		verdict, would = event.VerdictAudit, event.VerdictDeny
	}
	e := r.events.Wait(t, "the denial", func(e event.Event) bool {
		return e.Subject.Container == c.ID && e.Subject.Origin == event.OriginExec && e.Verdict == verdict && e.Would == would
	})
	s := e.Subject
	gated := r.step == event.StepCgroup && e.Step == event.StepGate // where the thread is not known
	if s.Session == 0 || s.Exe != r.program || s.PID == 0 || s.Truncated || !gated && (s.Comm == "" || s.TID == 0) {
		t.Errorf("the denial names another subject: %+v", s)
	}
	if e.Step != r.step && !gated {
		t.Errorf("step %d denied, want %d", e.Step, r.step)
	}
	if refused {
		if e.Reason != event.ReasonMPTCP || e.Call != event.CallSocket {
			t.Errorf("MPTCP was refused as %+v", e)
		}
		return
	}
	i := slices.IndexFunc(rules, func(rule compile.Rule) bool { return rule.Ref == e.Rule })
	if i < 0 || rules[i].Name != "default/p0/shells" || e.Reason != event.ReasonRule || e.Severity != event.SeverityCritical {
		t.Errorf("the denial is not the rule's: %+v", e)
	}
}
