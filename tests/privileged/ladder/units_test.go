package ladder

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/procfs"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// unitPolicy is for units that are called web*: Main may reach the open port, Exec nothing.
const unitPolicy = `
kind: HostProcessPolicy
metadata: {name: web}
spec:
  hostSelector: {units: ['web*.service']}
` + webPolicy

// innerPolicy is for one more unit, inside of such a one.
const innerPolicy = `
kind: HostProcessPolicy
metadata: {name: inner}
spec:
  hostSelector: {units: [inner.service]}
  rules:
  - {name: nothing, action: Deny}
`

// units are cgroups as a service manager makes them, in a node with an agent.
type units struct {
	*rig
	slice string // directory of what holds them
	known []compile.Workload
}

// newUnits attaches an agent to a node whose network namespaces are nobody's.
func newUnits(t *testing.T, step event.Step) *units {
	t.Helper()
	r := newBareRig(t, step)
	r.attach(t)
	return &units{rig: r, slice: r.Cgroup(t, "test.slice")}
}

// unit makes the cgroup of a unit below a directory. Its processes stay in the mount namespace of the node.
func (u *units) unit(t *testing.T, in, name string) *pod.Container {
	t.Helper()
	c := &pod.Container{Dir: filepath.Join(in, name), NS: u.ns}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.ID = inode(t, c.Dir)
	return c
}

// confirm makes a unit a workload.
func (u *units) confirm(t *testing.T, c *pod.Container, running bool) {
	t.Helper()
	if err := u.labels.ConfirmUnit(c.ID, running); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(c.Dir, filepath.Dir(u.CgroupRoot))
	u.known = append(u.known, compile.Workload{Key: c.ID, Host: &policy.HostUnit{Unit: policy.UnitOf(path), Cgroup: path}})
}

// enforce puts both policies in force.
func (u *units) enforce(t *testing.T) {
	t.Helper()
	in := compile.Input{Workloads: u.known}
	for _, text := range []string{unitPolicy, innerPolicy} {
		parsed, err := policy.Parse("test", []byte("apiVersion: "+policy.APIVersion+u.fill(text)))
		if err != nil {
			t.Fatal(err)
		}
		in.Policies = append(in.Policies, parsed...)
	}
	tables, err := compile.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.judge.Swap(tables); err != nil {
		t.Fatal(err)
	}
}

// service is a process of a unit that runs a line of the victim.
func (u *units) service(c *pod.Container, line string) *pod.Process {
	p := u.victim(c, line)
	p.HostMounts = true
	return p
}

// wants runs a line in a unit and checks what becomes of it.
func (u *units) wants(t *testing.T, c *pod.Container, line, want string) {
	t.Helper()
	p := u.service(c, line)
	p.Start(t)
	if got := outcome(t, p); got != want {
		t.Errorf("%s in %s: got %s, want %s", line, filepath.Base(c.Dir), got, want)
	}
}

// waiting starts a line that waits in a cgroup; going on ends the wait and returns what became of it.
func (u *units) waiting(t *testing.T, c *pod.Container, line string) (pid int, goOn func() string) {
	t.Helper()
	p := u.service(c, "wait "+line)
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	return p.Process.Pid, func() string {
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Error(err)
		}
		return outcome(t, p)
	}
}

// move puts a process into a cgroup, as a service manager does that is in no unit.
func move(t *testing.T, pid int, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
		t.Fatal(err)
	}
}

const (
	toOpen   = "-- connect-tcp SERVER4 OPEN"
	toClosed = "-- connect-tcp SERVER4 CLOSED"
)

// TestUnits holds that a unit's processes are judged by who they are, by every way into it, and that nobody else is.
func TestUnits(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		u := newUnits(t, step)
		main, other := u.unit(t, u.slice, "web.service"), u.unit(t, u.slice, "other.service")
		moved := u.unit(t, u.slice, "web-moved.service")
		for _, c := range []*pod.Container{main, moved} {
			u.confirm(t, c, false)
		}
		u.enforce(t)

		u.wants(t, other, toClosed, "ok")
		u.wants(t, main, toOpen, "ok") // the first: Main
		u.wants(t, main, toOpen, "EPERM")
		denial := u.events.Wait(t, "the denial of Exec", func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
		if s := denial.Subject; s.Origin != event.OriginExec || s.Container != main.ID || s.Session == 0 || s.Exe != u.program {
			t.Errorf("the label says %+v", s)
		}

		// Who is moved in is governed where it stands, by the program that it runs.
		u.events.Reset()
		pid, goOn := u.waiting(t, other, toClosed)
		move(t, pid, moved.Dir)
		if got := goOn(); got != "EPERM" {
			t.Errorf("moved in: got %s", got)
		}
		denial = u.events.Wait(t, "the denial of who was moved in", func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
		if s := denial.Subject; s.Origin != event.OriginMain || s.Container != moved.ID || s.Exe != u.program || s.Truncated {
			t.Errorf("the label says %+v", s)
		}
	})
}

// TestUnitsAreLeft holds that a label goes with the cgroup where another moves the process, and that no process sheds it
// by its own hand.
func TestUnitsAreLeft(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		u := newUnits(t, step)
		other := u.unit(t, u.slice, "other.service")
		var all []*pod.Container
		for i := range 6 {
			c := u.unit(t, u.slice, fmt.Sprintf("web%d.service", i))
			u.confirm(t, c, false)
			all = append(all, c)
		}
		container := u.unit(t, all[5].Dir, strings.Repeat("ab", 32))
		u.enforce(t)

		pid, goOn := u.waiting(t, all[0], toClosed)
		move(t, pid, other.Dir)
		if got := goOn(); got != "ok" {
			t.Errorf("moved out: got %s", got)
		}
		pid, goOn = u.waiting(t, all[1], toOpen)
		move(t, pid, all[0].Dir) // not the first there
		if got := goOn(); got != "EPERM" {
			t.Errorf("moved on: got %s", got)
		}
		u.wants(t, all[2], "into-cgroup "+other.Dir+" "+toClosed, "EPERM")
		u.wants(t, all[3], "into-cgroup "+all[0].Dir+" exec-self "+toOpen, "ok") // still Main of its own
		u.wants(t, all[5], "into-cgroup "+container.Dir+" exec-self "+toClosed, "EPERM")
		u.wants(t, container, toClosed, "ok") // of no pod that policies know
	})
}

// TestUnitsInside holds that a unit inside another has the policies of both, also for who is there already.
func TestUnitsInside(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		u := newUnits(t, step)
		outer := u.unit(t, u.slice, "web.service")
		inner := u.unit(t, outer.Dir, "inner.service")
		pids, ends := make([]int, 2), make([]func() string, 2)
		pids[0], ends[0] = u.waiting(t, outer, toOpen)
		pids[1], ends[1] = u.waiting(t, inner, toOpen)
		u.confirm(t, outer, true)
		u.inferred(t, map[int]*pod.Container{pids[0]: outer, pids[1]: outer})
		u.confirm(t, inner, true)
		u.inferred(t, map[int]*pod.Container{pids[0]: outer, pids[1]: inner})
		u.enforce(t)
		if got := ends[0](); got != "ok" {
			t.Errorf("in the outer one: got %s", got)
		}
		if got := ends[1](); got != "EPERM" {
			t.Errorf("in the inner one: got %s", got)
		}
		pid, goOn := u.waiting(t, outer, "into-cgroup "+inner.Dir+" "+toOpen)
		if got := goOn(); got != "EPERM" {
			t.Errorf("from the outer to the inner one, as %d: got %s", pid, got)
		}
	})
}

// inferred labels processes that are older than their units.
func (u *units) inferred(t *testing.T, in map[int]*pod.Container) {
	t.Helper()
	var all []label.Inferred
	for pid, c := range in {
		p, err := procfs.New("/proc").Process(uint32(pid))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, label.Inferred{
			PID: p.PID, StartTicks: p.StartTicks, Container: c.ID, Unit: true, Origin: event.OriginMain, Exe: p.Exe,
		})
	}
	if _, _, err := u.labels.Infer(all); err != nil {
		t.Fatal(err)
	}
}

// TestUnitsAreTold holds that new cgroups are told of while policies select units, but for those inside containers, and
// that a container in a unit's slice is a container all the same.
func TestUnitsAreTold(t *testing.T) {
	testutil.RequireRoot(t)
	u := newUnits(t, strongest(t))
	if err := u.kernel.WatchUnits(true); err != nil {
		t.Fatal(err)
	}
	u.confirm(t, &pod.Container{Dir: u.slice, ID: inode(t, u.slice)}, true)
	container := u.unit(t, u.slice, strings.Repeat("cd", 32))
	u.unit(t, container.Dir, "init.scope")
	told := u.unit(t, u.slice, "web.service")
	news := func(id uint64) func(event.Event) bool {
		return func(e event.Event) bool { return e.Kind == event.KindCgroup && e.Subject.Container == id }
	}
	if e := u.events.Wait(t, "the container", news(container.ID)); e.Unit {
		t.Error("a container is told of as a unit")
	}
	if e := u.events.Wait(t, "the unit", news(told.ID)); !e.Unit || !strings.HasSuffix(told.Dir, e.Path) {
		t.Errorf("told of %+v", e)
	}
	if err := u.kernel.WatchUnits(false); err != nil {
		t.Fatal(err)
	}
	u.unit(t, u.slice, "later.service")
	last := u.unit(t, u.slice, strings.Repeat("ef", 32))
	u.events.Wait(t, "the last container", news(last.ID))
	inside := u.events.Find(func(e event.Event) bool {
		return e.Kind == event.KindCgroup && (strings.HasSuffix(e.Path, "init.scope") || strings.HasSuffix(e.Path, "later.service"))
	})
	if len(inside) > 0 {
		t.Errorf("told of %+v", inside)
	}
}

// inode is the id of a cgroup.
func inode(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
