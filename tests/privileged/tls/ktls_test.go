package tls

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// ktlsOf matches what is told of kTLS on a connection from a port.
func ktlsOf(port uint16, part event.KTLSPart) func(event.Event) bool {
	return func(e event.Event) bool {
		return e.Kind == event.KindKTLS && e.Local.Port() == port && e.KTLS.Part == part
	}
}

// TestHandMadeKernelTLS: a program that has no TLS library, and gives the kernel keys by itself, is left alone and told where
// nobody is asked about requests; where somebody is, it does not get the kernel to encrypt, and nothing of what it has
// made the kernel encrypt before reaches the server.
func TestHandMadeKernelTLS(t *testing.T) {
	onSteps(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		k := s.sink(t)
		c := s.commanded(t, k.at)
		s.swap(t, "Enforce", plain)
		old := handMade(t, s, k, c)
		c.must(t, "connect")
		if said := c.do(t, "ulp-by-ring"); said != "ok" && said != unix.EOPNOTSUPP.Error() {
			t.Errorf("through io_uring, where nobody is asked about requests: %q", said)
		}
		c.must(t, "connect", "ulp")
		waiting := c.port(t)
		s.swap(t, "Enforce", asked)
		for command, part := range map[string]event.KTLSPart{"send ": event.KTLSSend, "receive ": event.KTLSReceive} {
			if said := c.do(t, command+suites()[0].name); said != unix.EPERM.Error() {
				t.Errorf("keys to %sfor a socket that waited for them: %q", command, said)
			}
			e := s.events.Wait(t, "the refusal of keys", ktlsOf(waiting, part))
			if e.Verdict != event.VerdictDeny || e.Step != step || e.KTLS.Version != 0 || e.Remote != k.at {
				t.Errorf("it is told as %+v", e)
			}
		}
		olderThanPolicy(t, s, k, c, old)
		refused(t, s, k, c)
	})
}

// handMade has connections encrypted with every suite and written to in every way, and returns their ports.
func handMade(t *testing.T, s *scene, k *sink, c *commanded) (ports []uint16) {
	t.Helper()
	for i := range max(len(suites()), len(ways())) {
		suite := suites()[i%len(suites())]
		c.must(t, "connect", "ulp", "send "+suite.name, "receive "+suite.name, fmt.Sprintf("write %d write", i))
		port := c.port(t)
		ports = append(ports, port)
		k.record(t, port)
		for _, part := range []event.KTLSPart{event.KTLSSend, event.KTLSReceive} {
			e := s.events.Wait(t, suite.name, ktlsOf(port, part))
			if e.KTLS.Version != suite.version || e.KTLS.Cipher != suite.cipher || e.Verdict != event.VerdictNone ||
				e.Step != event.StepNone || e.Remote != k.at || e.Subject.Container != s.box.ID {
				t.Errorf("%s is told as %+v", suite.name, e)
			}
		}
	}
	return ports
}

// olderThanPolicy writes to each connection in another way.
func olderThanPolicy(t *testing.T, s *scene, k *sink, c *commanded, ports []uint16) {
	t.Helper()
	before := map[uint16][]byte{}
	for i, port := range ports {
		before[port] = k.from(port)
		way := ways()[i%len(ways())]
		said := c.do(t, fmt.Sprintf("write %d %s", i, way))
		s.events.Wait(t, "what is written by "+way+" ("+said+")", func(e event.Event) bool {
			return e.Kind == event.KindRequest && e.Local.Port() == port && e.Verdict == event.VerdictDeny
		})
	}
	arrives(t, s, k)
	for i, port := range ports {
		if now := k.from(port); !slices.Equal(now, before[port]) {
			t.Errorf("written by %s with %s there came %d bytes", ways()[i%len(ways())], suites()[i%len(suites())].name, len(now)-len(before[port]))
		}
	}
}

// arrives waits until a request that may arrives, which is sent after all others.
func arrives(t *testing.T, s *scene, k *sink) {
	t.Helper()
	after := s.commanded(t, k.at)
	after.must(t, "connect", "write 0 write")
	port := after.port(t)
	testutil.Eventually(t, "a request in cleartext", func() error {
		if b := k.from(port); string(b) != request("GET", "/allowed/ktls") {
			return fmt.Errorf("there came %q", b)
		}
		return nil
	})
}

// refused asks for what it does not get.
func refused(t *testing.T, s *scene, k *sink, c *commanded) {
	t.Helper()
	c.must(t, "connect")
	port := c.port(t)
	if said := c.do(t, "ulp"); said != unix.EPERM.Error() {
		t.Errorf("asking for TLS of the kernel: %q", said)
	}
	e := s.events.Wait(t, "a refusal", ktlsOf(port, event.KTLSULP))
	if e.Verdict != event.VerdictDeny || e.Reason != event.ReasonOpaque || e.Call != event.CallOption || e.Remote != k.at || e.KTLS.Tapped || e.Severity != event.SeverityWarning {
		t.Errorf("it is told as %+v", e)
	}
	if said := c.do(t, "ulp-by-ring"); said != unix.EPERM.Error() && said != unix.EOPNOTSUPP.Error() {
		t.Errorf("asking for it through io_uring, which Linux since 6.7 does: %q", said)
	}
	if b := k.from(port); len(b) != 0 {
		t.Errorf("there came %x", b)
	}
}

// How a program asks.
const (
	byCall = "call"
	byRing = "ring" // io_uring, since Linux 6.7
)

// askKernelTLS asks on a socket that is not connected: the kernel refuses that too, with another error.
func askKernelTLS(by string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	// A hook that gets values of options gets no more than a page of one, and what is longer is to be set all the same.
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, string(make([]byte, 2*unix.Getpagesize()))); err != nil {
		return fmt.Errorf("another option, with a long value: %w", err)
	}
	if by == byRing {
		return setULPByRing(fd)
	}
	return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
}

// TestKernelTLSIsRefused: where requests are asked about, the kernel does not encrypt in the library's place, on any step.
func TestKernelTLSIsRefused(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	attached.OnEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		s := newScene(t, step)
		for _, by := range []string{byCall, byRing} {
			s.swap(t, "Enforce", plain)
			if said := s.box.Command(self, ulpArg, by).Run(t); said == unix.EPERM.Error() {
				t.Errorf("by a %s, where nobody is asked about requests: %q", by, said)
			} else if said == unix.EOPNOTSUPP.Error() && by == byRing {
				t.Log("this kernel sets no options by rings")
				continue
			}
			s.swap(t, "Enforce", asked)
			c := s.box.Command(self, ulpArg, by)
			if said := c.Run(t); said != unix.EPERM.Error() {
				t.Errorf("by a %s: %q", by, said)
			}
			e := s.events.Wait(t, "the refusal", func(e event.Event) bool { return e.Kind == event.KindKTLS && e.Subject.PID == uint32(c.Process.Pid) })
			if e.KTLS.Part != event.KTLSULP || e.Verdict != event.VerdictDeny || e.Step != step {
				t.Errorf("it is told as %+v", e)
			}
		}
		if told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindKTLS && e.Verdict != event.VerdictDeny }); len(told) > 0 {
			t.Errorf("what was not refused is told: %+v", told)
		}
	})
}
