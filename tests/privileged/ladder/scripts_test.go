package ladder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// scriptRules select one script, and another that cannot be executed, as the victim reads them.
const scriptRules = `processes: [{scripts: [{interpreter: VICTIM, path: DIR/run.sh}, {interpreter: VICTIM, path: DIR/broken.sh}]}]`

// allowScript closes the network for everybody but them; denyScript for them only.
const (
	allowScript = `
  rules:
  - name: job
    ` + scriptRules + `
    egress: [{toCIDR: [SERVER4/32]}]
  - name: everybody
    egress: []
`
	denyScript = `
  rules:
  - name: job
    ` + scriptRules + `
    action: Deny
`
)

// scriptCase is how a process comes to run, or not to run, DIR/run.sh, and what becomes of its call where rules
// allow that script alone, and where they deny it alone.
type scriptCase struct {
	transforms, allow, deny string
}

func scriptCases() []scriptCase {
	return []scriptCase{
		{"fork", "EPERM", "ok"},
		{"run DIR/run.sh", "ok", "EPERM"},
		{"run run.sh", "ok", "EPERM"},
		{"run ./run.sh", "ok", "EPERM"},
		{"run DIR/run.sh fork", "ok", "EPERM"},
		{"fork run DIR/run.sh", "ok", "EPERM"},
		{"run DIR/run.sh exec-self", "EPERM", "ok"}, // the script is over
		{"run DIR/copy.sh", "EPERM", "ok"},
		{"run DIR/hard.sh", "EPERM", "ok"}, // another name of the file
		{"run DIR/copy.sh run DIR/run.sh", "ok", "EPERM"},
		{"copy DIR/tool script DIR/other.sh run DIR/run.sh", "ok", "EPERM"},
		{"copy DIR/tool script DIR/tool.sh", "EPERM", "ok"},        // another interpreter
		{"--script DIR/run.sh", "EPERM", "ok"},                     // an argument of the interpreter, which nobody reads as a script
		{"run DIR/run.sh run-fails DIR/broken.sh", "ok", "EPERM"},  // still itself
		{"run-fails DIR/broken.sh run DIR/copy.sh", "EPERM", "ok"}, // nothing comes of what failed
		{"run-fails DIR/broken.sh run-fd DIR/copy.sh", "EPERM", "EPERM"},
		// What the interpreter opens may be another file than the kernel has opened: not known, which is closed.
		{"run DIR/soft.sh", "EPERM", "EPERM"},
		{"run DIR/soft/run.sh", "EPERM", "EPERM"},
		{"run-fd DIR/run.sh", "EPERM", "EPERM"},
		{"share-dir run run.sh", "EPERM", "EPERM"},
		{"share-dir run DIR/run.sh", "ok", "EPERM"},
		{"run DIR/nested.sh", "EPERM", "EPERM"}, // its interpreter is DIR/run.sh
		{"run DIR/nested.sh run DIR/run.sh", "ok", "EPERM"},
	}
}

// unknownCases are the same where the kernel does not tell which file a script is: rules that allow one have none,
// rules that deny one have all that its interpreter runs.
func unknownCases() []scriptCase {
	return []scriptCase{
		{"fork", "EPERM", "ok"},
		{"run DIR/run.sh", "EPERM", "EPERM"},
		{"run DIR/copy.sh", "EPERM", "EPERM"},
		{"copy DIR/tool script DIR/tool.sh", "EPERM", "ok"},
		{"run DIR/run.sh exec-self", "EPERM", "ok"},
	}
}

// TestScripts holds that a rule's scripts are the files that run by their #! line, called by their own path, with the
// interpreter that the rule names.
func TestScripts(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		dir := scripts(t, r)
		c := r.started(t, "web")
		known := step != event.StepCgroup
		if got := r.judge.Scripts(); got != known {
			t.Fatalf("whether scripts are known: %t, want %t", got, known)
		}
		cases := unknownCases()
		if known {
			cases = scriptCases()
		}
		for _, tc := range cases {
			t.Run(tc.transforms, func(t *testing.T) {
				for _, with := range []struct{ rules, want string }{{allowScript, tc.allow}, {denyScript, tc.deny}} {
					r.swap(t, strings.ReplaceAll(with.rules, "DIR", dir))
					p := r.victim(c, strings.ReplaceAll(tc.transforms, "DIR", dir)+" -- connect-tcp SERVER4 OPEN")
					p.Dir = dir
					p.Start(t)
					if got := outcome(t, p); got != with.want {
						t.Errorf("got %s, want %s, under %s", got, with.want, with.rules)
					}
				}
			})
		}
	})
}

// TestScriptChangesBehindItsExecution holds that a label keeps the script that was executed, whatever becomes of its
// file: who may write a script may have been it before.
func TestScriptChangesBehindItsExecution(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	if !r.judge.Scripts() {
		t.Skip("this kernel does not tell which file a script is: the VM's do")
	}
	c := r.started(t, "web")
	for name, change := range map[string]func(script string) error{
		"edited":  func(script string) error { return os.WriteFile(script, []byte("#!/nothing\n"), 0o755) },
		"renamed": func(script string) error { return os.Rename(script, script+".old") },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := scripts(t, r)
			r.swap(t, strings.ReplaceAll(allowScript, "DIR", dir))
			script := filepath.Join(dir, "run.sh")
			r.events.Reset()
			p := r.victim(c, "run "+script+" wait -- connect-tcp SERVER4 OPEN")
			in, err := p.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			p.Start(t)
			r.events.Wait(t, "the execution of the script", func(e event.Event) bool { return e.Kind == event.KindExec && e.Subject.Script == script })
			if err := change(script); err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if got := outcome(t, p); got != "ok" {
				t.Errorf("got %s, want ok", got)
			}
		})
	}
}

// scripts makes a directory of them.
func scripts(t *testing.T, r *rig) string {
	t.Helper()
	dir := linkable(t, r)
	for name, interpreter := range map[string]string{
		"run.sh": r.program + " --script", "copy.sh": r.program + " --script",
		"broken.sh": filepath.Join(dir, "nothing"), "nested.sh": filepath.Join(dir, "run.sh") + " rename-comm",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "#!%s\n", interpreter), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"soft.sh": "run.sh", "soft": "."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "run.sh"), filepath.Join(dir, "hard.sh")); err != nil {
		t.Fatal(err)
	}
	return dir
}
