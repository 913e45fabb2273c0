package agent

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// TestVersions: an agent finds the pins of one whose maps mean something else, older or newer, or are of another size. It refuses
// them, says the way out, and leaves them in force; the agent that made them takes them over without a gap.
func TestVersions(t *testing.T) {
	s := newScene(t)
	web, shell, main := s.knocking(t)
	refused := func(what string) {
		t.Helper()
		s.agent.launch(t)
		if code := s.agent.AwaitEnd(t); code != 1 {
			t.Errorf("%s: the agent ended with exit code %d", what, code)
		}
		log := s.agent.Log(t)
		if last := log[strings.LastIndex(strings.TrimSpace(log), "\n")+1:]; !strings.Contains(last, "incompatible version") || !strings.Contains(last, "sallyport run --cleanup") {
			t.Errorf("%s: the agent's last word is %q", what, last)
		}
		more(t, what+": the shell goes on to be denied", shell, "connect-tcp: EPERM", 2)
		more(t, what+": the main program goes on", main, "loop-tcp: ok=200 ", 1)
		s.wantShell(t, web, "EPERM")
	}
	adopted := func(what string) {
		t.Helper()
		s.agent.Start(t)
		s.agent.awaitGoverned(t, "web")
		if !s.agent.Status(t).Adopted {
			t.Errorf("%s: the pins were not adopted", what)
		}
	}
	for _, k := range []struct {
		what string
		by   uint32
	}{{"pins of the next version", 1}, {"pins of the version before", ^uint32(0)}} {
		s.agent.Stop(t)
		s.shiftABI(t, k.by)
		refused(k.what)
		s.shiftABI(t, -k.by)
		adopted(k.what)
	}
	s.agent.Stop(t)
	s.agent.conf.sizes = "{containers: 1024}"
	refused("maps of another size")
	s.agent.conf.sizes = ""
	adopted("maps of another size")
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, main())
	wantAllDenied(t, shell())
}

// shiftABI changes the version that the pins say they are of. No agent runs.
func (s *scene) shiftABI(t *testing.T, by uint32) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.agent.Path("bpf/sallyport"), "controls"), nil)
	check(t, err)
	defer func() { _ = m.Close() }() // a handle
	value, err := m.LookupBytes(uint32(0))
	check(t, err)
	const abi = 8 // offset in struct control, behind the revision
	binary.NativeEndian.PutUint32(value[abi:], binary.NativeEndian.Uint32(value[abi:])+by)
	check(t, m.Put(uint32(0), value))
}
