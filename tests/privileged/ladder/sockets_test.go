package ladder

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/procfs"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	allowMain = "\n  rules:\n  - {name: main, processes: [{origins: [Main]}], egress: [{toCIDR: [SERVER4/32, 127.0.0.1/32]}]}\n"
	denyMain  = "\n  rules:\n  - {name: main, processes: [{origins: [Main]}], action: Deny, onViolation: {verdict: VERDICT}}\n"
)

// received is how much a server got from its only contact.
func received(t *testing.T, e *testutil.Echo) int {
	t.Helper()
	contacts := e.Contacts()
	if len(contacts) != 1 {
		t.Fatalf("the server has contacts %v, want one", contacts)
	}
	return len(contacts[0].Data)
}

// beats waits until a connection that is held has carried more bytes.
func beats(t *testing.T, e *testutil.Echo) {
	t.Helper()
	before := len(e.Contacts())
	if before > 0 {
		before = received(t, e)
	}
	testutil.Eventually(t, "traffic on the connection", func() error {
		if len(e.Contacts()) == 0 || received(t, e) < before+2 {
			return fmt.Errorf("no more than %d bytes", before)
		}
		return nil
	})
}

// silent checks that a connection carries nothing for a while; what was under way may still arrive.
func silent(t *testing.T, e *testutil.Echo) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	before := received(t, e)
	time.Sleep(700 * time.Millisecond)
	if after := received(t, e); after != before {
		t.Errorf("the server got %d more bytes of a connection that is denied now", after-before)
	}
}

// TestConnectionOlderThanPolicy holds that an established connection is judged again under a new
// policy: it falls silent, over the veth and over the pod's loopback, and lives again when it may.
func TestConnectionOlderThanPolicy(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		for _, to := range []struct {
			line string
			echo *testutil.Echo
		}{{"hold-tcp SERVER4 OPEN 60000", r.open}, {"hold-tcp 127.0.0.1 LOCAL 60000", r.local}} {
			for _, verdict := range []string{"Deny", "Drop"} {
				t.Run(to.line+" "+verdict, func(t *testing.T) {
					to.echo.Reset()
					c := r.container(t, "web")
					r.swap(t, allowMain)
					p := r.victim(c, to.line)
					p.Start(t)
					beats(t, to.echo)
					r.swap(t, strings.ReplaceAll(denyMain, "VERDICT", verdict))
					silent(t, to.echo)
					r.swap(t, allowMain)
					beats(t, to.echo)
					if err := p.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					p.Result()
				})
			}
		}
	})
}

// TestListenerOlderThanPolicy holds that a listening socket serves nobody any more once its process may not.
func TestListenerOlderThanPolicy(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c := r.container(t, "web")
		r.swap(t, allowMain)
		p := r.victim(c, "listen-tcp POD4 4000 3000")
		p.Start(t)
		r.events.Wait(t, "the call of listen", func(e event.Event) bool { return e.Subject.Container == c.ID && e.Call == listening(step) })
		r.swap(t, strings.ReplaceAll(denyMain, "VERDICT", "Deny"))
		if answer, err := r.ask(t, r.net.Server, "tcp", netip.AddrPortFrom(r.net.PodAddr, 4000)); err == nil {
			t.Errorf("the server still answers: %q", answer)
		}
		if got := outcome(t, p); got == "ok" {
			t.Errorf("the server got %s", got)
		}
	})
}

// listening is the last call of a server that the step sees.
func listening(step event.Step) event.Call {
	if step == event.StepCgroup {
		return event.CallBind
	}
	return event.CallListen
}

// ask sends a word from a namespace to an echo server and returns its answer.
func (r *rig) ask(t *testing.T, from *testutil.NetNS, network string, to netip.AddrPort) (answer string, err error) {
	t.Helper()
	return r.askFrom(t, from, nil, network, to)
}

// askFrom does it from an address of its own unless that is nil. A connection ends by a reset, so that the address
// is free again.
func (r *rig) askFrom(t *testing.T, from *testutil.NetNS, own net.Addr, network string, to netip.AddrPort) (answer string, err error) {
	t.Helper()
	from.Do(t, func() error {
		// Between the last call that a step sees and the listen, a server refuses.
		for end := time.Now().Add(time.Second); ; {
			answer, err = knock(own, network, to)
			if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(end) {
				return nil // an error may be what the test wants
			}
		}
	})
	return answer, err
}

func knock(own net.Addr, network string, to netip.AddrPort) (answer string, err error) {
	const word = "knock"
	dialer := net.Dialer{LocalAddr: own, Timeout: time.Second}
	conn, err := dialer.Dial(network, to.String())
	if err != nil {
		return "", err
	}
	defer conn.Close() // the answer is what counts
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return "", err
		}
	}
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	buffer := make([]byte, len(word))
	n, err := io.ReadFull(conn, buffer)
	return string(buffer[:n]), err
}

// infer describes a running process to the labeller.
func infer(t *testing.T, p *pod.Process, c *pod.Container, origin event.Origin) label.Inferred {
	t.Helper()
	info, err := procfs.New("/proc").Process(uint32(p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return label.Inferred{PID: info.PID, StartTicks: info.StartTicks, Container: c.ID, Origin: origin, Session: 1, Exe: exe}
}

// TestOlderThanAgent holds that processes, all their threads and their sockets which are older than
// the agent are governed once /proc has told what they are.
func TestOlderThanAgent(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		attached.Anew(t)
		r := newBareRig(t, step)
		c := r.container(t, "web")
		held := r.victim(c, "hold-tcp SERVER4 OPEN 60000")
		held.Start(t)
		beats(t, r.open)
		threads := r.role(c, roleThreads, r.fill("SERVER4:OPEN"))
		start, err := threads.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		said, err := threads.Listen()
		if err != nil {
			t.Fatal(err)
		}
		threads.Start(t)
		awaitLine(t, said, "ready")

		r.attach(t)
		if err := r.labels.Confirm(c.ID, true); err != nil {
			t.Fatal(err)
		}
		stale := infer(t, held, c, event.OriginMain)
		stale.PID, stale.StartTicks = uint32(os.Getpid()), stale.StartTicks-1 // a pid that another process has by now
		labelled, owned, err := r.labels.Infer([]label.Inferred{
			infer(t, held, c, event.OriginMain), infer(t, threads, c, event.OriginExec), stale,
		})
		if err != nil {
			t.Fatal(err)
		}
		if labelled < 1+threadCount || owned < 1+threadCount {
			t.Errorf("%d threads and %d sockets were labelled, want %d at least", labelled, owned, 1+threadCount)
		}
		r.swap(t, allowMain+"  - {name: shells, processes: [{origins: [Exec]}], action: Deny}\n")
		beats(t, r.open)
		if _, err := io.WriteString(start, "\n"); err != nil {
			t.Fatal(err)
		}
		if got, want := threads.Result(), "threads:"+strings.Repeat(" EPERM", threadCount); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		denial := r.events.Wait(t, "a denial", func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
		if s := denial.Subject; !s.Inferred || s.Origin != event.OriginExec || s.Container != c.ID || s.Session == 0 {
			t.Errorf("the label says %+v", s)
		}
		r.swap(t, strings.ReplaceAll(denyMain, "VERDICT", "Deny"))
		silent(t, r.open)
		r.expect(t, c, "connect-tcp SERVER4 OPEN", "ok") // a session: only Main is denied
		if err := held.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		held.Result()
	})
}
