package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// TestChurnOfCgroups lets cgroups that are called as containers are come and go, as many as FLOOD says, as whoever may make cgroups on
// the node can. The agent follows: behind them it governs the next container, and remembers none of them.
func TestChurnOfCgroups(t *testing.T) {
	s := newScene(t)
	web, shell, main := s.knocking(t)
	slice := pod.NewNode(t).Cgroup(t, "slice")
	for i := range testutil.Flood(t, 5000, 500) {
		dir := filepath.Join(slice, fmt.Sprintf("%064x", i))
		check(t, errors.Join(os.Mkdir(dir, 0o755), os.Remove(dir)))
	}
	guest := s.run(t, "guest", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, guest.ID)
	s.wantShell(t, guest, "EPERM")
	s.wantShell(t, web, "EPERM")
	more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 2)
	s.agent.awaitStatus(t, "only what runs is known", func(st status) error {
		if n := len(st.Workloads); n != 2 {
			return fmt.Errorf("%d workloads", n)
		}
		return nil
	})
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, main())
}
