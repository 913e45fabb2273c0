package agent

import (
	"os"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

// envUpgrades is how often an agent hands over to one of another version, where it is not the few times that every run can afford.
const envUpgrades = "UPGRADES"

// TestUpgrade hands over between two versions whose maps are the same and whose programs are not, up and down, while a shell tries
// what is denied and the main program does what is allowed. Nothing gets through or breaks, each version puts its own programs in
// the place of the other's, and what is pinned stays the same.
func TestUpgrade(t *testing.T) {
	upgrades := 4
	if text := os.Getenv(envUpgrades); text != "" {
		var err error
		upgrades, err = strconv.Atoi(text)
		check(t, err)
	}
	s := newScene(t)
	versions := []string{program.Next(t), s.agent.Program}
	web, shell, main := s.knocking(t)
	hooks, pins := s.attached(t), s.tree(t, s.agent.Path("bpf"))
	for i := range upgrades {
		s.agent.Stop(t)
		more(t, "the shell is denied while no agent runs", shell, "connect-tcp: EPERM", 2)
		s.agent.Program = versions[i%2]
		s.agent.Policy(t, "other.yaml", s.policyOf("other", "  rules: [{name: none"+strconv.Itoa(i)+", processes: [{binaries: [/nowhere]}], action: Deny}]\n"))
		s.agent.Start(t)
		s.agent.awaitGoverned(t, "web")
		s.wantShell(t, web, "EPERM")
		more(t, "the main program goes on", main, "loop-tcp: ok=200 ", 1)
		if !s.agent.Status(t).Adopted {
			t.Error("the maps of the other version were not adopted")
		}
		if n := s.attached(t); n != hooks*(i+2) {
			t.Errorf("%d hooks were attached after %d handovers, and each version had to attach its %d", n, i+1, hooks)
		}
		if now := s.tree(t, s.agent.Path("bpf")); now != pins {
			t.Errorf("pinned is\n%s\nand was\n%s", now, pins)
		}
		if t.Failed() {
			break
		}
	}
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, main())
	wantAllDenied(t, shell())
}
