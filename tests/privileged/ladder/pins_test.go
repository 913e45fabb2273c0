package ladder

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/feature"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// otherAgent is an agent in a process of its own.
type otherAgent struct {
	cmd   *exec.Cmd
	lines *json.Encoder
	out   *bufio.Scanner
}

// startAgent starts an agent and waits until it has attached.
func startAgent(t *testing.T, r *rig) *otherAgent {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+roleAgent)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &otherAgent{cmd: cmd, lines: json.NewEncoder(in), out: bufio.NewScanner(out)}
	if err := a.lines.Encode(attachment{r.cfg, r.step}); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, a.out, "attached")
	return a
}

// swap lets it put tables in force.
func (a *otherAgent) swap(t *testing.T, tables *compile.Tables) {
	t.Helper()
	if err := a.lines.Encode(tables); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, a.out, "in force")
}

// kill ends it as nothing can be prepared for.
func (a *otherAgent) kill(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait() // killed, as it says
}

// tally checks what a loop of the victim counted: all passed, or all were denied. A server that is too
// slow to accept drops connections of its own accord: those count for nothing.
func (r *rig) tally(t *testing.T, p *pod.Process, line string, passes bool) (calls int) {
	t.Helper()
	got := outcome(t, p)
	var ok, eperm, other int
	if _, err := fmt.Sscanf(got, "ok=%d eperm=%d other=%d", &ok, &eperm, &other); err != nil {
		t.Fatalf("%s printed %q: %v", line, got, err)
	}
	right, wrong := ok, eperm
	if !passes {
		right, wrong = eperm, ok
	}
	if other > 0 && passes && other <= r.overflows(t) && strings.Contains(p.Complaint(), "ETIMEDOUT") {
		t.Logf("%s: the server dropped %d", line, other)
		other = 0
	}
	if right == 0 || wrong+other > 0 {
		t.Errorf("%s, which passes: %t: %d passed, %d were denied, %d failed otherwise: %s", line, passes, ok, eperm, other, p.Complaint())
	}
	return right
}

// overflows is how many connections the servers' kernel side has dropped because nobody accepted them in time.
func (r *rig) overflows(t *testing.T) int {
	t.Helper()
	var text []byte
	r.net.Server.Do(t, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		dropped, err := strconv.Atoi(fields[slices.Index(names, "ListenDrops")])
		if err != nil {
			t.Fatal(err)
		}
		return dropped
	}
	t.Fatal("the kernel does not count dropped connections")
	return 0
}

// TestKilledAgent holds that an agent's death and the next one's start leave no gap: under load, what
// is denied never succeeds and what is allowed never fails; processes that start while no agent runs
// get their labels; the next agent adopts what it finds.
func TestKilledAgent(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		attached.Anew(t)
		r := newBareRig(t, step)
		r.own, r.flood = true, true
		first := startAgent(t, r)
		c, later := r.container(t, "web"), r.container(t, "web")
		first.swap(t, r.compile(t, webPolicy))
		allowed, denied := r.victim(c, "loop-tcp SERVER4 OPEN 0 6000"), r.victim(c, "loop-tcp SERVER4 OPEN 0 6000")
		allowed.Start(t)
		denied.Start(t)
		time.Sleep(time.Second)
		first.kill(t)
		r.expect(t, later, "fork -- connect-tcp SERVER4 OPEN", "ok")
		r.expect(t, later, "fork -- connect-tcp SERVER4 OPEN", "EPERM")
		r.attach(t)
		if r.kernel.Fresh() {
			t.Error("the pins were not found")
		}
		for _, h := range append(append(r.judge.Hooks(), r.labels.Hook()), r.gate.Hooks()[0]) {
			if !h.Adopted {
				t.Errorf("hook %s was not adopted: %+v", h.Name, h)
			}
		}
		r.expect(t, later, "connect-tcp SERVER4 OPEN", "EPERM")
		r.tally(t, allowed, "what is allowed", true)
		r.tally(t, denied, "what is denied", false)
		r.swap(t, "\n  rules:\n  - name: nobody\n    action: Deny\n")
		r.expect(t, later, "connect-tcp SERVER4 OPEN", "EPERM")
		r.expect(t, c, "connect-udp SERVER4 OPEN", "EPERM")
	})
}

// TestStepChangesWithoutGap holds that a second agent which takes another step puts it in place before
// it retires the first one's.
func TestStepChangesWithoutGap(t *testing.T) {
	testutil.RequireRoot(t)
	for _, probe := range []feature.Probe{feature.LSM, feature.ModRet} {
		if err := probe(); err != nil && !testutil.InVM() {
			t.Logf("tested on other kernels: %v", err)
			return
		} else if err != nil {
			testutil.Unsupported(t, "step-fmod_ret", err.Error())
		}
	}
	r := newBareRig(t, event.StepLSM)
	r.flood = true
	r.attach(t)
	c := r.container(t, "web")
	r.swap(t, webPolicy)
	allowed, denied := r.victim(c, "loop-tcp SERVER4 OPEN 0 8000"), r.victim(c, "loop-tcp SERVER4 OPEN 0 8000")
	allowed.Start(t)
	denied.Start(t)
	for _, step := range []event.Step{event.StepModRet, event.StepLSM, event.StepModRet} {
		time.Sleep(500 * time.Millisecond)
		j := judge.Open(r.kernel)
		if err := j.Attach([]event.Step{step}); err != nil {
			t.Fatal(err)
		}
		for _, h := range j.Hooks() {
			if h.Step != step || h.Adopted {
				t.Errorf("hook %s: step %d, adopted %t, want step %d anew", h.Name, h.Step, h.Adopted, step)
			}
		}
	}
	names, err := r.kernel.Pins().Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "judge_lsm_") {
			t.Errorf("%s is still pinned", name)
		}
	}
	r.tally(t, allowed, "what is allowed", true)
	r.tally(t, denied, "what is denied", false)
}

// TestIncompatiblePins holds that an agent refuses the pins of a version whose maps mean something
// else, and leaves them in force.
func TestIncompatiblePins(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	c := r.started(t, "web")
	r.swap(t, webPolicy)
	controls, err := ebpf.LoadPinnedMap(filepath.Join(r.BPFFS, r.cfg.PinDir, "controls"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controls.Close() }) // the pin holds it
	value, err := controls.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	const abi = 8 // offset in struct control, behind the revision
	binary.NativeEndian.PutUint32(value[abi:], binary.NativeEndian.Uint32(value[abi:])+1)
	if err := controls.Put(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	k, err := probes.Open(r.cfg)
	if !errors.Is(err, probes.ErrIncompatible) {
		t.Errorf("got %v, want %v", err, probes.ErrIncompatible)
	}
	if err == nil {
		t.Cleanup(func() { _ = k.Close() }) // the test has failed
	}
	after, err := controls.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(value) {
		t.Errorf("the refused agent changed the controls: %x, were %x", after, value)
	}
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
}

// TestCleanup holds that nothing is left in force.
func TestCleanup(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	c := r.started(t, "web")
	r.swap(t, webPolicy)
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
	count, err := probes.Cleanup(r.BPFFS, r.cfg.PinDir)
	if err != nil || count == 0 {
		t.Errorf("removed %d pins: %v", count, err)
	}
	r.net.Node.Do(t, gate.Cleanup)
	if _, err := os.Stat(filepath.Join(r.BPFFS, r.cfg.PinDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of pins is still there: %v", err)
	}
	// The kernel frees a link some time after its last pin is gone.
	testutil.Eventually(t, "the end of enforcement", func() error {
		if got := r.try(t, c, "connect-tcp SERVER4 OPEN"); got != "ok" {
			return errors.New(got)
		}
		return nil
	})
	if count, err := probes.Cleanup(r.BPFFS, r.cfg.PinDir); count != 0 || err != nil {
		t.Errorf("a second time it removed %d pins: %v", count, err)
	}
}

// TestAgentThatCameNoFurther holds that an agent which died before it had tables in force leaves no pins that count: the next
// one is the first.
func TestAgentThatCameNoFurther(t *testing.T) {
	testutil.RequireRoot(t)
	r := newBareRig(t, strongest(t))
	for i, want := range []bool{true, true, false} {
		k, err := probes.Open(r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Fresh(); got != want {
			t.Errorf("agent %d: fresh is %t, want %t", i, got, want)
		}
		if i == 1 {
			if _, err := judge.Open(k).Swap(&compile.Tables{Rulesets: []*compile.Ruleset{{}}}); err != nil {
				t.Error(err)
			}
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}
