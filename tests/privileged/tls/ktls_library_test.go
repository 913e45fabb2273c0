package tls

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
)

// envOpenSSL is a command that runs an openssl built with kTLS, where the one of the machine is not. Debian's is since 13; its
// GnuTLS is built without.
const envOpenSSL = "SALLYPORT_OPENSSL_KTLS"

// kernelUser is openssl, which has the kernel encrypt where it may. Without one that is built for it the test is skipped.
func kernelUser(t *testing.T) program {
	t.Helper()
	openssl := []string{"openssl"}
	if command := os.Getenv(envOpenSSL); command != "" {
		openssl = strings.Fields(command)
	}
	help, _ := exec.Command(openssl[0], append(openssl[1:], "s_client", "-help")...).CombinedOutput() // it ends with an error or not
	if !strings.Contains(string(help), "-ktls") {
		t.Skipf("%v is built without kTLS; %s may name another", openssl, envOpenSSL)
	}
	return program{"openssl", read.OpenSSL, func(s *scene) []string {
		return append(slices.Clip(openssl), "s_client", "-quiet", "-ktls", "-connect", s.server.String())
	}}
}

// TestLibraryDoesWithoutTheKernel: a library that has the kernel encrypt is left alone where nobody is asked about requests; where
// somebody is, it is refused that, encrypts by itself, and its requests are read.
func TestLibraryDoesWithoutTheKernel(t *testing.T) {
	p := kernelUser(t)
	onSteps(t, func(t *testing.T, step event.Step) {
		withoutKernel(t, newSceneOf(t, step, probes.Config{TellConnect: true}), p)
	})
}

func withoutKernel(t *testing.T, s *scene, p program) {
	t.Helper()
	told := func(c *talker, part event.KTLSPart, verdict event.Verdict) {
		t.Helper()
		e := s.events.Wait(t, "what is told of "+p.name, func(e event.Event) bool {
			return e.Kind == event.KindKTLS && e.Subject.PID == uint32(c.Process.Process.Pid) && e.KTLS.Part == part
		})
		if e.Verdict != verdict || e.Remote != s.server || e.KTLS.Tapped != (verdict == event.VerdictDeny) {
			t.Errorf("it is told as %+v", e)
		}
	}
	s.swap(t, "Enforce", plain)
	by := s.start(t, p.args(s)...)
	by.ask(t, "/denied/by-the-kernel") // by no rule that is in force
	s.arrived(t, "/denied/by-the-kernel")
	told(by, event.KTLSSend, event.VerdictNone)
	s.cover(t, by, p.library)
	s.swap(t, "Enforce", asked)
	c := s.start(t, p.args(s)...)
	c.ask(t, "/allowed/"+p.name)
	s.arrived(t, "/allowed/"+p.name)
	told(c, event.KTLSULP, event.VerdictDeny)
	c.ask(t, "/denied/"+p.name)
	s.told(t, c.Process.Process.Pid, event.VerdictDeny, event.ReasonRule)
	by.ask(t, "/allowed/too-old")
	s.events.Wait(t, "a request by the kernel on an older connection", func(e event.Event) bool {
		return e.Kind == event.KindRequest && e.Verdict == event.VerdictDeny && e.Step == event.StepGate
	})
	if s.has("/denied/"+p.name) || s.has("/allowed/too-old") {
		t.Errorf("the server has seen %q", s.seen)
	}
}
