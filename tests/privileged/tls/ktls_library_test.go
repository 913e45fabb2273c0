package tls

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
)

// Commands that run programs whose libraries are built with kTLS, where those of the machine are not: see tests/vm/ktls.sh.
const (
	envOpenSSL = "SALLYPORT_OPENSSL_KTLS" // openssl
	envGnuTLS  = "SALLYPORT_GNUTLS_KTLS"  // what takes ADDRESS:PORT, sends what it reads and trusts who answers
)

// kernelUsers are programs whose libraries have the kernel encrypt where they may.
func kernelUsers(t *testing.T) (users []program) {
	t.Helper()
	openssl := []string{"openssl"}
	if command := os.Getenv(envOpenSSL); command != "" {
		openssl = strings.Fields(command)
	}
	help, _ := exec.Command(openssl[0], append(openssl[1:], "s_client", "-help")...).CombinedOutput() // it ends with an error or not
	if strings.Contains(string(help), "-ktls") {
		users = append(users, program{"openssl", read.OpenSSL, func(s *scene) []string {
			return append(slices.Clip(openssl), "s_client", "-quiet", "-ktls", "-connect", s.server.String())
		}})
	}
	if gnutls := strings.Fields(os.Getenv(envGnuTLS)); len(gnutls) > 0 {
		config := filepath.Join(t.TempDir(), "gnutls")
		if err := os.WriteFile(config, []byte("[global]\nktls = true\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GNUTLS_SYSTEM_PRIORITY_FILE", config)
		users = append(users, program{"gnutls", read.GnuTLS, func(s *scene) []string {
			return append(slices.Clip(gnutls), s.server.String())
		}})
	}
	if len(users) == 0 {
		testutil.Unsupported(t, "ktls-library", "no library here is built with kTLS; "+envOpenSSL+" and "+envGnuTLS+" may name programs")
	}
	return users
}

// TestLibraryDoesWithoutTheKernel: a library that has the kernel encrypt is left alone where nobody is asked about requests; where
// somebody is, it is refused that, encrypts by itself, and its requests are read.
func TestLibraryDoesWithoutTheKernel(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		for _, p := range kernelUsers(t) {
			t.Run(p.name, func(t *testing.T) { withoutKernel(t, newSceneOf(t, step, probes.Config{TellConnect: true}), p) })
		}
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
