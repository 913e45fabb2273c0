// Package gauntlet lets real programs run the gauntlet of Sallyport: each attack first without it, where it must succeed,
// then against each step of the ladder alone. It is stopped only if a server outside has seen nothing of it. What stops
// it, or that nothing does, is in table.md; a run fails where a row has become worse than that.
package gauntlet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// quiet is how long a connection must carry nothing to count as silent: several beats of hold-tcp.
const quiet = 700 * time.Millisecond

func TestGauntlet(t *testing.T) {
	testutil.RequireRoot(t)
	all := attacks()
	fair := make([]bool, len(all))
	t.Run("without Sallyport", func(t *testing.T) {
		s := newScene(t, event.StepNone, all)
		for i, a := range all {
			reached, said := s.attempt(t, &a, s.containers[i])
			if fair[i] = reached; !reached && a.lack == "" {
				t.Errorf("%s does not work even without Sallyport: %s", a.name, said)
			}
			if !reached {
				t.Logf("%s: not here: %s", a.name, said)
			}
		}
	})
	known, measured := committed(table), map[event.Step][]string{}
	attached.OnEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		s := newScene(t, step, all)
		for i, a := range all {
			cell := untried
			if fair[i] {
				cell = s.run(t, &a, s.containers[i])
				known.compare(t, a.name, step, cell)
			}
			measured[step] = append(measured[step], cell)
		}
	})
	var names []string
	for _, a := range all {
		names = append(names, a.name)
	}
	printTable(names, measured)
}

// run makes an attack and returns what stopped it.
func (s *scene) run(t *testing.T, a *attack, c *pod.Container) string {
	t.Helper()
	if a.kind == lasting || a.kind == older {
		s.swap(t, "")
	} else {
		s.swap(t, governing)
	}
	reached, said := s.attempt(t, a, c)
	if reached && s.told(c) {
		return reported
	}
	if reached {
		return through
	}
	// What no hook tells of, the call's own result must show.
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		if e, ok := s.stopped(c); ok {
			return where(e)
		}
		if time.Now().After(end) {
			return "untold: " + said
		}
	}
}

// where names what has stopped something.
func where(e event.Event) string {
	switch {
	case e.Kind == event.KindForeign:
		return atVeth
	case e.Step == event.StepGate:
		return atSocket
	}
	names := map[event.Call]string{
		event.CallConnect: "connect", event.CallSendmsg: "sendmsg", event.CallBind: "bind", event.CallListen: "listen", event.CallAccept: "accept",
		event.CallSocket: "socket", event.CallTrace: "trace", event.CallReceive: "receive",
		event.CallSignal: "signal", event.CallLimit: "limit", event.CallBPF: "bpf",
	}
	return "call: " + names[e.Call]
}

// attempt makes an attack and returns whether it succeeded, and what it said.
func (s *scene) attempt(t *testing.T, a *attack, c *pod.Container) (reached bool, said string) {
	t.Helper()
	var main *pod.Process
	if a.kind != older {
		main = s.main(t, a, c)
	}
	if main != nil {
		defer func() {
			_ = main.Process.Kill() // may have ended
			main.Result()
		}()
	}
	if a.kind == older {
		return s.outlasts(t, s.older[c]), "silent"
	}
	lent := s.lend(t, a)
	defer func() { _ = lent.Close() }() // its end would be a packet, too
	s.mark(t)
	s.witness.reset()
	s.events.Reset()
	line := a.line
	if strings.Contains(line, "AGENT") {
		line = strings.ReplaceAll(line, "AGENT", strconv.Itoa(s.agent(t)))
	}
	if main != nil {
		line = strings.ReplaceAll(line, "PID", strconv.Itoa(main.Process.Pid))
	}
	p := s.victim(c, line)
	if lent != nil {
		p.ExtraFiles = []*os.File{lent}
	}
	p.Start(t)
	switch a.kind {
	case inward:
		s.knock(t, strings.Fields(s.fill(line)))
		said = outcome(p)
		reached = said == "ok"
	case taking:
		said = outcome(p)
		reached = said == "ok"
	case lasting, older:
		return s.outlasts(t, p), "silent"
	case outward:
		said = outcome(p)
		s.mark(t)
		seen := s.witness.packets()
		reached = len(seen) > 0
		if reached {
			t.Logf("%s (%s): %s", a.name, said, strings.Join(seen, ", "))
		}
	}
	return reached, said
}

// main starts what Main runs meanwhile, or lets a Main come and go, so that who comes now is a session.
func (s *scene) main(t *testing.T, a *attack, c *pod.Container) *pod.Process {
	t.Helper()
	if a.main == "" {
		if got := outcome(s.started(t, c, "socket unix stream")); got != "ok" {
			t.Fatalf("Main of %s: %s", a.name, got)
		}
		return nil
	}
	s.open.Reset()
	p := s.started(t, c, a.main)
	if strings.HasPrefix(a.main, "relay-") {
		s.relays(t)
		return p
	}
	if strings.HasPrefix(a.main, "offer-") {
		testutil.Eventually(t, "Main's connection", func() error {
			if len(s.open.Contacts()) == 0 {
				return errors.New("it has not come")
			}
			return nil
		})
		return p
	}
	s.served(t)
	return p
}

// relays waits until Main's proxy listens.
func (s *scene) relays(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, "Main's proxy", func() error {
		var sockets []byte
		s.Pod.Do(t, func() (err error) {
			sockets, err = os.ReadFile("/proc/thread-self/net/unix")
			return err
		})
		if !strings.Contains(string(sockets), "@gauntlet\n") {
			return errors.New("nobody listens")
		}
		return nil
	})
}

// listens finds a socket that listens on Main's port in /proc/net/tcp and tcp6.
var listens = regexp.MustCompile(fmt.Sprintf(`:%04X 0+:0000 0A`, servePort))

// served waits until Main listens.
func (s *scene) served(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, "Main's server", func() error {
		var sockets, sockets6 []byte
		s.Pod.Do(t, func() (err error) {
			if sockets, err = os.ReadFile("/proc/thread-self/net/tcp"); err == nil {
				sockets6, err = os.ReadFile("/proc/thread-self/net/tcp6")
			}
			return err
		})
		if !listens.Match(sockets) && !listens.Match(sockets6) {
			return errors.New("nobody listens")
		}
		return nil
	})
}

// knock comes to the port of a server's line from the server outside, from several ports, for as long as it may take the
// session to listen.
func (s *scene) knock(t *testing.T, line []string) {
	t.Helper()
	network := "tcp"
	if line[0] == "udp-server" {
		network = "udp"
	}
	port, err := strconv.Atoi(line[2])
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(s.PodAddr, uint16(port)).String()
	s.Server.Do(t, func() error {
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			conn, err := net.DialTimeout(network, to, 100*time.Millisecond)
			if err != nil {
				continue // refused or not heard, which is what should be
			}
			_, _ = conn.Write([]byte("knock")) // what counts is whether the session hears it
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = conn.Read(make([]byte, 5))
			_ = conn.Close()
		}
		return nil
	})
}

// outlasts says whether a connection that was allowed goes on under the policy that denies it.
func (s *scene) outlasts(t *testing.T, p *pod.Process) bool {
	t.Helper()
	defer func() {
		_ = p.Process.Kill() // has ended, if the connection has
		p.Result()
	}()
	testutil.Eventually(t, "traffic on the connection", func() error {
		if len(s.witness.packets()) < 6 {
			return errors.New("not yet")
		}
		return nil
	})
	s.swap(t, governing)
	time.Sleep(quiet) // what was under way arrives
	s.witness.reset()
	time.Sleep(quiet)
	return len(s.witness.packets()) > 0
}

// columns are the steps in the order of the table.
func columns() []event.Step { return attached.Enforcing() }

func title(step event.Step) string { return judge.StepName(step) }
