package netns

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// inhabitant is a process in a namespace.
func inhabitant(t *testing.T, in *testutil.NetNS) uint32 {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in.Start(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return uint32(cmd.Process.Pid)
}

func TestInspectLeavesNothingBehind(t *testing.T) {
	in := testutil.NewNetNS(t)
	pid := inhabitant(t, in)
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	home, err := Cookie()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		found, err := Inspect(pid)
		if err != nil {
			t.Fatal(err)
		}
		if found.Cookie != in.Cookie(t) || found.Inode != in.Inode(t) || found.Cookie == home {
			t.Fatalf("found %+v, want cookie %d and inode %d", found, in.Cookie(t), in.Inode(t))
		}
		if len(found.Links) != 1 || found.Links[0].Name != "lo" ||
			!slices.Contains(found.Links[0].Addresses, netip.MustParsePrefix("127.0.0.1/8")) {
			t.Fatalf("links are %+v, want the loopback", found.Links)
		}
		if now, err := Cookie(); err != nil || now != home {
			t.Fatalf("the caller is in namespace %d now, %v; it was in %d", now, err, home)
		}
	}
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(after) > len(before) {
		t.Errorf("%d descriptors are open, %d were: %v", len(after), len(before), after)
	}
}
