package ladder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// allowTool closes the network for everybody but two programs, one of them a script.
const allowTool = `
  rules:
  - name: tool
    processes: [{binaries: ["DIR/tool", "DIR/real", "DIR/run.sh", "DIR/long/**"]}]
    egress: [{toCIDR: [SERVER4/32]}]
  - name: everybody
    egress: []
`

// denyTool closes it for two programs only.
const denyTool = `
  rules:
  - name: tool
    processes: [{binaries: ["DIR/tool", "DIR/real", "DIR/run.sh"]}]
    action: Deny
`

// TestBinaries holds that a rule's binaries are the files that run, as their container names them: not their
// argv, not their name, not what a link to them is called, nor what they are called below a root of their own. A script counts as itself and as its
// interpreter. What cannot be told is closed: no rule that allows has it, every rule that denies does.
func TestBinaries(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) { binaries(t, newRig(t, step)) })
}

func binaries(t *testing.T, r *rig) {
	t.Helper()
	dir := linkable(t, r)
	c := r.started(t, "web")
	long := filepath.Join(dir, "long", strings.Repeat("a", 150), strings.Repeat("b", 150))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "jail", dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("DIR", dir, "BASE", filepath.Base(dir), "LONG", long).Replace
	for _, tc := range []struct {
		transforms, allow, deny string
	}{
		{"fork", "EPERM", "ok"},
		{"copy DIR/tool", "ok", "EPERM"},
		{"copy tool", "ok", "EPERM"},
		{"copy DIR/../BASE/./tool", "ok", "EPERM"}, // the file counts, not how it was called
		{"copy DIR/tool exec-self", "ok", "EPERM"},
		{"copy DIR/tool fork", "ok", "EPERM"},
		{"copy DIR/tool thread-exec", "ok", "EPERM"},
		{"copy DIR/tool memfd", "EPERM", "ok"},
		{"copy DIR/tool copy DIR/other", "EPERM", "ok"},
		{"hardlink DIR/tool", "ok", "EPERM"},
		{"symlink DIR/tool", "EPERM", "ok"}, // the link names the victim, which has no rule
		{"copy DIR/tool symlink DIR/other", "ok", "EPERM"},
		{"chroot DIR/jail DIR/tool", "EPERM", "ok"},  // DIR/jail/DIR/tool
		{"mount-over DIR/real", "EPERM", "EPERM"},    // in a mount namespace of its own: paths say nothing there
		{"mount-nowhere DIR/tool", "EPERM", "EPERM"}, // in none
		{"argv0 DIR/tool", "EPERM", "ok"},
		{"rename-comm tool", "EPERM", "ok"},
		{"memfd", "EPERM", "ok"},
		{"script DIR/run.sh", "ok", "EPERM"},
		{"script run.sh", "ok", "EPERM"},
		{"script ./run.sh", "ok", "EPERM"},
		{"script DIR/other.sh", "EPERM", "ok"},
		{"copy DIR/tool script DIR/other.sh", "ok", "EPERM"}, // by its interpreter
		{"script DIR/run.sh copy DIR/other", "EPERM", "ok"},  // the script is over
		{"script ../BASE/run.sh", "EPERM", "EPERM"},          // named by a detour: not known
		{"copy LONG/tool", "EPERM", "EPERM"},                 // longer than a label holds
		{"copy LONG/tool copy DIR/tool", "ok", "EPERM"},      // known again
		{"script LONG/run.sh", "EPERM", "EPERM"},             // the same for scripts
	} {
		t.Run(tc.transforms, func(t *testing.T) {
			for _, with := range []struct{ rules, want string }{{allowTool, tc.allow}, {denyTool, tc.deny}} {
				r.swap(t, fill(with.rules))
				p := r.victim(c, fill(tc.transforms)+" -- connect-tcp SERVER4 OPEN")
				p.Dir = dir
				p.Start(t)
				if got := outcome(t, p); got != with.want {
					t.Errorf("got %s, want %s, under %s", got, with.want, with.rules)
				}
			}
		})
	}
}

// TestDeletedBinary holds that a file which was unlinked is no longer what its path names.
func TestDeletedBinary(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	dir := linkable(t, r)
	c := r.started(t, "web")
	r.swap(t, strings.ReplaceAll(allowTool, "DIR", dir))
	tool := filepath.Join(dir, "tool")
	r.events.Reset()
	p := r.victim(c, "copy "+tool+" sleep 3000 exec-self -- connect-tcp SERVER4 OPEN")
	p.Start(t)
	r.events.Wait(t, "the execution of the copy", func(e event.Event) bool { return e.Kind == event.KindExec && e.Subject.Exe == tool })
	if err := os.Remove(tool); err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, p); got != "EPERM" {
		t.Errorf("got %s, want EPERM", got)
	}
	denial := r.events.Wait(t, "the denial", func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
	if want := tool + " (deleted)"; denial.Subject.Exe != want {
		t.Errorf("the binary is %q, want %q", denial.Subject.Exe, want)
	}
}
