package gauntlet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/procfs"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// Ports: of the server, but for servePort, which is Main's.
const (
	decoyPort = testutil.EchoPort // the session may reach it
	openPort  = 8888              // Main may reach it
	markPort  = 7779              // nobody listens; the witness counts
	servePort = 4000
)

// metadata is the address of a cloud's metadata service.
const metadata = "169.254.169.254"

// scene is a pod, a server outside with a witness, and the agent's kernel side where there is one.
type scene struct {
	*testutil.Net
	node       *pod.Node
	ns         netns.NsHandle
	open       *testutil.Echo
	witness    *witness
	program    string
	tool       string                          // a file of a program that sessions may run to reach the open port
	plant      string                          // the path of another such, where there is none
	free       *pod.Container                  // ungoverned
	containers []*pod.Container                // one for each attack
	older      map[*pod.Container]*pod.Process // sessions that are older than the agent
	kernel     *probes.Kernel                  // nil: without Sallyport
	judge      *judge.Judge                    // nil: without Sallyport
	gate       *gate.Gate
	events     *attached.Recorder
}

// newScene makes a pod with a container for each attack and, unless step is StepNone, puts the agent's kernel side in
// place on that step.
func newScene(t *testing.T, step event.Step, all []attack) *scene {
	t.Helper()
	attached.Anew(t) // some of its processes are older than what is attached
	s := &scene{older: map[*pod.Container]*pod.Process{}, node: pod.NewNode(t), Net: testutil.NewNet(t, testutil.NetOptions{}), program: victim.Build(t), events: &attached.Recorder{}}
	for file, in := range map[string]*testutil.NetNS{"ping_group_range=0 0": s.Pod, "tcp_fastopen=1027": s.Server} {
		name, value, _ := strings.Cut(file, "=")
		in.Do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644) })
	}
	s.open = testutil.NewEcho(t, s.Server, netip.AddrPortFrom(s.ServerAddr, openPort), netip.AddrPortFrom(s.ServerAddr6, openPort))
	s.witness = newWitness(t, s.Server)
	s.tool = filepath.Join(t.TempDir(), "tool")
	s.plant = filepath.Join(filepath.Dir(s.tool), "plant")
	if err := os.WriteFile(s.tool, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	s.serveMetadata(t)
	var err error
	if s.ns, err = netns.GetFromPath(s.Pod.Path()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ns.Close() }) // read only
	s.free = s.node.Container(t, "free", s.ns)
	for i, a := range all {
		c := s.node.Container(t, "c"+strconv.Itoa(i), s.ns)
		s.containers = append(s.containers, c)
		if a.kind == older {
			s.older[c] = s.started(t, c, a.line)
		}
	}
	if step != event.StepNone {
		s.attach(t, step)
	}
	s.pin(t)
	if s.judge != nil {
		s.swap(t, "")
		veth := gate.Veth{Container: s.free.ID, Ifindex: uint32(s.Gate.Attrs().Index), NetNS: s.Pod.Cookie(t)}
		s.Node.Do(t, func() error { return s.gate.Govern(veth) })
	}
	return s
}

// attach puts LABEL, JUDGE on one step, and GATE in place.
func (s *scene) attach(t *testing.T, step event.Step) {
	t.Helper()
	s.kernel, s.judge = attached.Open(t, s.node, probes.Config{
		TellConnect: true, BorrowTell: true, BorrowRefuse: true, RelayTell: true, ProtectTell: true, ProtectRefuse: true, FrontTell: true, FrontRefuse: true,
	}, []event.Step{step})
	var err error
	if s.gate, err = gate.Attach(s.kernel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.gate.Close() }) // handles
	s.events = attached.Record(t, s.kernel)
	s.catchUp(t)
}

// catchUp tells the kernel of the containers, which are older than it, and labels what runs in them, as the agent does.
func (s *scene) catchUp(t *testing.T) {
	t.Helper()
	labels, err := label.Attach(s.kernel)
	if err != nil {
		t.Fatal(err)
	}
	var running []label.Inferred
	for _, c := range append(s.containers, s.free) {
		p := s.older[c]
		if err := labels.Confirm(c.ID, p != nil); err != nil {
			t.Fatal(err)
		}
		if p == nil {
			continue
		}
		info, err := procfs.New("/proc").Process(uint32(p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		running = append(running, label.Inferred{
			PID: info.PID, StartTicks: info.StartTicks, Container: c.ID, Origin: event.OriginExec, Session: 1, Exe: s.program,
		})
	}
	if _, _, err := labels.Infer(running); err != nil {
		t.Fatal(err)
	}
}

// serveMetadata gives the server the address of a cloud's metadata service, and the node a way to it.
func (s *scene) serveMetadata(t *testing.T) {
	t.Helper()
	address := &net.IPNet{IP: net.ParseIP(metadata), Mask: net.CIDRMask(32, 32)}
	lo, err := s.Server.Handle(t).LinkByName("lo")
	if err == nil {
		err = s.Server.Handle(t).AddrAdd(lo, &netlink.Addr{IPNet: address})
	}
	if err == nil {
		err = s.Node.Handle(t).RouteAdd(&netlink.Route{Dst: address, Gw: s.ServerAddr.AsSlice()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// swap puts a policy in force; "" is none.
func (s *scene) swap(t *testing.T, text string) {
	t.Helper()
	if s.judge == nil {
		return
	}
	in := compile.Input{Workloads: []compile.Workload{{Key: s.free.ID, Namespace: policy.DefaultNamespace, Container: "free"}}}
	for i, c := range s.containers {
		in.Workloads = append(in.Workloads, compile.Workload{
			Key: c.ID, Namespace: policy.DefaultNamespace, Container: "c" + strconv.Itoa(i), Labels: map[string]string{"app": "web"},
		})
	}
	var err error
	if text != "" {
		if in.Policies, err = policy.Parse("gauntlet", []byte(s.fill(text))); err != nil {
			t.Fatal(err)
		}
	}
	attached.InForce(t, s.judge, compile.Enforced{}, in)
}

// fill puts the scene's addresses and ports into a line or a policy.
func (s *scene) fill(text string) string {
	return strings.NewReplacer(
		"SERVER4", s.ServerAddr.String(), "SERVER6", s.ServerAddr6.String(), "POD4", s.PodAddr.String(), "POD6", s.PodAddr6.String(),
		"FREE", s.free.Dir, "NEXT4", s.PodAddr.Next().String(), "THIRD4", s.PodAddr.Next().Next().String(), "MAC", s.Gate.Attrs().HardwareAddr.String(),
		"OPEN", strconv.Itoa(openPort), "DECOY", strconv.Itoa(decoyPort), "MARK", strconv.Itoa(markPort), "SERVE", strconv.Itoa(servePort),
		"TOOL", s.tool, "PLANT", s.plant, "FILES", filepath.Dir(s.tool), "METADATA", metadata, "NODE", s.Node.Path(),
		"PINNED", filepath.Join(s.node.BPFFS, "pinned"),
	).Replace(text)
}

// victim is a process of a container that runs a line.
func (s *scene) victim(c *pod.Container, line string) *pod.Process {
	line = s.fill(line)
	if program, ok := strings.CutPrefix(line, "!"); ok {
		return c.Command(strings.Fields(program)...)
	}
	if !strings.Contains(line, "-- ") {
		line = "-- " + line
	}
	return c.Command(append([]string{s.program}, strings.Fields(line)...)...)
}

// outcome waits for a victim and returns what became of its attempt: ok, or an errno's name.
func outcome(p *pod.Process) string {
	got := p.Result()
	if _, rest, ok := strings.Cut(got, ": "); ok {
		return rest
	}
	return fmt.Sprintf("no result: %q, %s, %s", got, p.Complaint(), p.ProcessState)
}

// pin pins a map, as an agent does.
func (s *scene) pin(t *testing.T) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // its pin goes with the file system
	if err := m.Pin(filepath.Join(s.node.BPFFS, "pinned")); err != nil {
		t.Fatal(err)
	}
}

// agent is a process of the node in the agent's place, which an attack may end.
func (s *scene) agent(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(s.program, "sleep", "600000", "--", "socket", "unix", "stream")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()         // by a signal
	})
	if s.kernel != nil {
		if err := s.kernel.Protect(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	return cmd.Process.Pid
}

// mark lets a process that may do so send a datagram from each processor, and waits until the witness has seen them: what was
// sent before has come, or will not. What one processor has sent can be overtaken by what another has.
func (s *scene) mark(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // a process starts where its parent's thread may run
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }() // as it was
	s.witness.forgetMarks()
	for cpu, sent := 0, 0; sent < all.Count(); cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		if got := outcome(s.started(t, s.free, "sendto-udp SERVER4 MARK")); got != "ok" {
			t.Fatalf("the datagram that closes an attack: %s", got)
		}
		sent++
	}
	s.witness.marked(t, all.Count())
}

func (s *scene) started(t *testing.T, c *pod.Container, line string) *pod.Process {
	t.Helper()
	p := s.victim(c, line)
	p.Start(t)
	return p
}

// stopped returns the first event that says that something of the container's sessions, or of nobody, was stopped.
func (s *scene) stopped(c *pod.Container) (event.Event, bool) {
	found := s.events.Find(func(e event.Event) bool {
		if e.Kind == event.KindForeign || e.Kind == event.KindTamper && e.Call == event.CallSignal {
			return true // of whom, nobody can tell in every case
		}
		return e.Subject.Container == c.ID && e.Subject.Origin == event.OriginExec && e.Verdict == event.VerdictDeny
	})
	if len(found) == 0 {
		return event.Event{}, false
	}
	return found[0], true
}

// told says whether what got through was told as somebody's asking another for it.
func (s *scene) told(c *pod.Container) bool {
	found := s.events.Find(func(e event.Event) bool {
		return e.Kind == event.KindBorrow && e.Verdict == event.VerdictAudit && e.Subject.Container == c.ID && e.Subject.Origin == event.OriginExec
	})
	return len(found) > 0
}
