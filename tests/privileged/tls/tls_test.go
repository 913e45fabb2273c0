package tls

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/feature"
)

// program is one that speaks TLS through a library.
type program struct {
	name    string
	library read.Library
	args    func(*scene) []string
}

func programs() []program {
	return []program{
		{"openssl", read.OpenSSL, func(s *scene) []string {
			return []string{"openssl", "s_client", "-quiet", "-connect", s.server.String()}
		}},
		{"gnutls-cli", read.GnuTLS, func(s *scene) []string {
			return []string{"gnutls-cli", "--insecure", "--no-ca-verification", "-p", s.port(), s.host()}
		}},
		{"tstclnt", read.NSS, func(s *scene) []string {
			return []string{"tstclnt", "-D", "-o", "-h", s.host(), "-p", s.port()}
		}},
		{"Go", read.Go, func(s *scene) []string { return []string{ownProgram, talkArg, s.server.String()} }},
	}
}

// A connection of a library is tied to its socket; once it is denied, nothing more of it leaves, and the program is
// told so where the kernel has a hook for it.
func TestDeniedConnectionCarriesNothingMore(t *testing.T) {
	onSteps(t, func(t *testing.T, step event.Step) {
		for _, p := range programs() {
			t.Run(p.name, func(t *testing.T) { deniedMidway(t, newScene(t, step), p) })
		}
	})
}

// hookedStep is a step of the ladder that has a hook in sends.
type hookedStep struct {
	step  event.Step
	probe feature.Probe
}

// onSteps runs a test on each step of the ladder that has a hook in sends.
func onSteps(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	onThese(t, hookedSteps(), test)
}

// hookedSteps are those that are asked for.
func hookedSteps() []hookedStep {
	steps := []hookedStep{{event.StepLSM, feature.LSM}, {event.StepModRet, feature.ModRet}}
	return slices.DeleteFunc(steps, func(h hookedStep) bool { return !attached.IsAsked(h.step) })
}

// onOneStep runs a test of what is the same on all of them.
func onOneStep(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	steps := hookedSteps()
	onThese(t, steps[:min(1, len(steps))], test)
}

func onThese(t *testing.T, steps []hookedStep, test func(*testing.T, event.Step)) {
	t.Helper()
	testutil.RequireRoot(t)
	for _, step := range steps {
		if lack := step.probe(); lack != nil {
			if testutil.InVM() {
				testutil.Unsupported(t, judge.StepName(step.step), lack.Error())
			}
			t.Logf("step %s is tested on other kernels: %v", judge.StepName(step.step), lack)
			continue
		}
		t.Run(judge.StepName(step.step), func(t *testing.T) { test(t, step.step) })
	}
}

func deniedMidway(t *testing.T, s *scene, p program) {
	t.Helper()
	early := s.start(t, p.args(s)...)
	s.cover(t, early, p.library)
	late := s.start(t, p.args(s)...)
	late.ask(t, "/first")
	s.arrived(t, "/first")
	key, conn := s.connected(t, p, late.Process.Process.Pid)
	late.ask(t, "/second")
	s.arrived(t, "/second")
	s.deny(t, key, conn)
	late.ask(t, "/third")
	_ = late.in.Close() // it may have ended
	late.ended(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.seen, "/third") {
		t.Errorf("the server has seen %q", s.seen)
	}
	if conns := s.conns(t, late.Process.Process.Pid); len(conns) != 0 {
		t.Logf("left behind: %+v (%s)", conns, late.Complaint()) // a program need not free what ends with it
	}
}

// TestForgottenConnections: a connection that was pushed out of its table is one that nobody reads: nothing more of it leaves.
func TestForgottenConnections(t *testing.T) {
	onSteps(t, func(t *testing.T, step event.Step) {
		for _, p := range programs() {
			if p.library == read.GnuTLS {
				continue // as OpenSSL
			}
			t.Run(p.name, func(t *testing.T) { forgotten(t, newScene(t, step), p) })
		}
	})
}

func forgotten(t *testing.T, s *scene, p program) {
	t.Helper()
	early := s.start(t, p.args(s)...)
	s.cover(t, early, p.library)
	s.swap(t, "Enforce", asked)
	late := s.start(t, p.args(s)...)
	late.ask(t, "/allowed/first")
	s.arrived(t, "/allowed/first")
	key, _ := s.connected(t, p, late.Process.Process.Pid)
	if err := s.kernel.Maps().Map("conn_by_object").Delete(&key); err != nil {
		t.Fatal(err)
	}
	late.ask(t, "/allowed/second")
	_ = late.in.Close() // it may have ended
	late.ended(t)
	if s.has("/allowed/second") {
		t.Error("a request on a connection that nobody reads has reached the server")
	}
}

// Without a socket hook the taps still follow the library: writes are counted as the library takes them, what is
// written with no known peer is denied, and an object that is freed is forgotten.
func TestTapsFollowLibrary(t *testing.T) {
	testutil.RequireRoot(t)
	s := newScene(t, event.StepCgroup)
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			early := s.start(t, p.args(s)...)
			s.cover(t, early, p.library)
			late := s.start(t, p.args(s)...)
			late.ask(t, "/"+p.name)
			s.arrived(t, "/"+p.name)
			testutil.Eventually(t, "a write that was taken", func() error {
				for _, conn := range s.conns(t, late.Process.Process.Pid) {
					if conn.State == denied && conn.Ahead == 0 && conn.Serial != 0 {
						return nil
					}
				}
				return fmt.Errorf("its connections: %+v", s.conns(t, late.Process.Process.Pid))
			})
		})
	}
	t.Run("curl", func(t *testing.T) {
		before := len(s.seen)
		if out := s.box.Command("curl", "-sk", "https://"+s.server.String()+"/curl").Run(t); out != "welcome" {
			t.Fatalf("curl says %q", out)
		}
		if before == len(s.seen) {
			t.Error("the server has seen nothing")
		}
	})
}
