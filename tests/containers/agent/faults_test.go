package agent

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

//go:embed faults.md
var faultTable string

// How long each fault lasts, where it is not faultLast; a part of the names of those that are tried, where it is not all.
const (
	envFaultSeconds = "FAULT_SECONDS"
	envFault        = "FAULT"
)

const (
	faultLast  = 5 * time.Second
	faultQueue = 1024 // alerts that wait for each sink
)

// fault is something that befalls a node under load.
type fault struct {
	name  string
	begin func(*testing.T, *faulty)
	end   func(*testing.T, *faulty)
	// uncounted says that alerts which the agent has read and not yet written may be lost without a count.
	uncounted bool
}

func faults() []fault {
	return []fault{
		{name: "the agent is stopped (SIGSTOP)", begin: agentSignal(syscall.SIGSTOP), end: agentSignal(syscall.SIGCONT)},
		{name: "the agent is killed (SIGKILL)", begin: func(t *testing.T, f *faulty) { f.agent.Kill(t) }, end: func(t *testing.T, f *faulty) { f.agent.Start(t) }, uncounted: true},
		{name: "the disk of the alerts and of the log is full", begin: fillDisk, end: func(t *testing.T, f *faulty) { check(t, os.Remove(f.filler())) }},
		{name: "the syslog collector hangs", begin: collectorMood(hanging), end: collectorMood(reading)},
		{name: "the syslog collector reads some KiB a second", begin: collectorMood(dawdling), end: collectorMood(reading)},
		{name: "the syslog collector resets each connection", begin: collectorMood(resetting), end: collectorMood(reading)},
		{name: "the syslog collector answers with noise", begin: collectorMood(chattering), end: collectorMood(reading)},
		{name: "the pins are wiped", begin: func(t *testing.T, f *faulty) { check(t, os.RemoveAll(f.agent.Path("bpf/sallyport"))) }, end: func(*testing.T, *faulty) {}},
		{name: "containerd hangs (SIGSTOP)", begin: containerdSignal(syscall.SIGSTOP), end: containerdSignal(syscall.SIGCONT)},
		{name: "containerd is killed", begin: func(t *testing.T, f *faulty) { f.containerd.Kill(t) }, end: func(t *testing.T, f *faulty) { f.containerd.Start(t) }},
		{name: "containerd answers a third of a second late", begin: proxyMood(slow), end: proxyMood(faithful)},
		{name: "containerd answers with noise", begin: proxyMood(garbling), end: proxyMood(faithful)},
		{name: "the agent has no memory left (cgroup)", begin: starve, end: feed, uncounted: true},
	}
}

// faulty is a node whose agent writes its alerts to a small disk and to a collector that may hang.
type faulty struct {
	*scene
	web      *testutil.Container
	proxy    *proxy // between the agent and containerd
	memory   *testutil.Memory
	disk     string
	mood     atomic.Int32 // of the collector
	received atomic.Int64 // denials that the collector was sent
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{disk: t.TempDir()}
	check(t, unix.Mount("faults", f.disk, "tmpfs", 0, "size=256m"))
	t.Cleanup(func() { _ = unix.Unmount(f.disk, unix.MNT_DETACH) }) // the agent has ended
	f.scene = newScene(t)
	check(t, os.Symlink(filepath.Join(f.disk, "log"), f.agent.Path("log"))) // where it writes its log to
	f.collect(t)
	f.proxy, f.memory = newProxy(t, f.containerd.Socket), testutil.NewMemory(t)
	f.agent.conf.containerd = f.proxy.socket
	f.agent.conf.alerts = fmt.Sprintf("{queue: %d, jsonl: {path: %s}, syslog: {enabled: true, network: tcp, address: %q}}",
		faultQueue, filepath.Join(f.disk, "alerts.jsonl"), collector)
	f.agent.Policy(t, "web.yaml", f.webPolicy())
	f.agent.Start(t)
	f.web = f.run(t, "web", f.load(testutil.EchoPort))
	f.agent.awaitGoverned(t, "web")
	return f
}

func (f *faulty) filler() string { return filepath.Join(f.disk, "filler") }

// fillDisk leaves nothing of the disk, and lets the agent have something to log.
func fillDisk(t *testing.T, f *faulty) {
	t.Helper()
	file, err := os.Create(f.filler())
	check(t, err)
	defer func() { _ = file.Close() }() // what it holds does not count
	var st unix.Statfs_t
	check(t, unix.Statfs(f.disk, &st))
	check(t, unix.Fallocate(int(file.Fd()), 0, 0, int64(st.Bavail)*st.Bsize))
	f.agent.Policy(t, "other.yaml", f.policyOf("other", "  rules: [{name: none, processes: [{binaries: [/nowhere]}], action: Deny}]\n"))
}

func agentSignal(signal syscall.Signal) func(*testing.T, *faulty) {
	return func(t *testing.T, f *faulty) { check(t, f.agent.Cmd.Process.Signal(signal)) }
}

func containerdSignal(signal syscall.Signal) func(*testing.T, *faulty) {
	return func(t *testing.T, f *faulty) { f.containerd.Signal(t, signal) }
}

func proxyMood(m mood) func(*testing.T, *faulty) {
	return func(_ *testing.T, f *faulty) { f.proxy.be(m) }
}

// starve lets the agent have no more memory than some pages, by which the kernel ends it.
func starve(t *testing.T, f *faulty) {
	t.Helper()
	f.memory.Leave(t, 64<<10)
	f.memory.Enter(t, f.agent.Cmd.Process.Pid)
	f.agent.AwaitEnd(t)
}

func feed(t *testing.T, f *faulty) {
	t.Helper()
	f.memory.Leave(t, -1)
	f.agent.Start(t) // outside of that cgroup
}

// denials counts the denied connects among the alerts that were written.
func (f *faulty) denials(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.disk, "alerts.jsonl"))
	check(t, err)
	n := 0
	for line := range strings.Lines(string(text)) {
		// A disk that is full ends a line anywhere; the record is written again.
		if strings.Contains(line, `"kind":"connect"`) && json.Valid([]byte(line)) {
			n++
		}
	}
	return n
}

// losses are the alerts that the kernel had no room for, and that the agent could not write to the file, as it counts them.
func (f *faulty) losses(t *testing.T) (ring, file int) {
	t.Helper()
	for _, c := range f.agent.Status(t).Losses {
		switch c.Site {
		case "alert_ring":
			ring = int(c.Count)
		case "sink/jsonl":
			file = int(c.Count)
		}
	}
	return ring, file
}

// outcome is what a fault has come to.
type outcome struct {
	denied, failed, lost, uncounted int
	leaked                          int
	back                            time.Duration
}

// befall lets a fault happen while a session connects to what is denied, some thousand times a second, and the main program
// to what is allowed.
func (f *faulty) befall(t *testing.T, k *fault, session string, last time.Duration) (o outcome) {
	t.Helper()
	f.forbidden.Reset()
	written, received := f.denials(t), int(f.received.Load())
	ring, file := f.losses(t)
	pid := f.web.ExecDetached(t, session, "sh", "-c",
		fmt.Sprintf("trap 'exit 0' TERM; while :; do victim -- loop-tcp %s %d 200 0; sleep 0.2; done", f.net.ServerAddr, forbiddenPort))
	shell, main := func() string { return f.web.ExecLog(t, session) }, func() string { return f.web.Log(t) }
	more(t, k.name+": the session is denied", shell, "loop-tcp: ok=0 eperm=200 ", 2)

	k.begin(t, f)
	time.Sleep(last)
	more(t, k.name+": the session goes on to be denied", shell, "loop-tcp: ok=0 eperm=200 ", 2)
	more(t, k.name+": the main program goes on", main, "loop-tcp: ok=200 ", 2)
	ended := time.Now()
	k.end(t, f)
	testutil.Eventually(t, k.name+": what is denied is told again", func() error {
		for _, e := range f.agent.Observe(t, "--verdict", "Deny", "--since", ended.UTC().Format(time.RFC3339Nano)) {
			if e.Kind == "connect" {
				return nil
			}
		}
		return errors.New("no such event")
	})
	o.back = time.Since(ended)

	check(t, syscall.Kill(int(pid), syscall.SIGTERM))
	testutil.Eventually(t, k.name+": the session ends", func() error {
		if err := syscall.Kill(int(pid), 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("it has not: %w", err)
		}
		return nil
	})
	for line := range strings.Lines(shell()) {
		var ok, eperm, other int
		if _, err := fmt.Sscanf(line, "loop-tcp: ok=%d eperm=%d other=%d", &ok, &eperm, &other); err != nil || ok+other > 0 {
			t.Errorf("%s: the session got %q", k.name, line)
		}
		o.denied += eperm
	}
	for line := range strings.Lines(main()) {
		if line != "loop-tcp: ok=200 eperm=0 other=0\n" {
			o.failed++
		}
	}
	o.leaked = len(f.forbidden.Contacts())
	if k.uncounted {
		file = 0 // the agent that counted has ended
	}
	before := -1
	balance := func() error {
		ringNow, fileNow := f.losses(t)
		o.lost = ringNow - ring + fileNow - file
		// Among what is lost can be other alerts: those of losses.
		o.uncounted = max(0, o.denied-o.lost-(f.denials(t)-written))
		settled := o.uncounted == before
		before = o.uncounted
		if o.uncounted != 0 && (!k.uncounted || !settled) {
			return fmt.Errorf("of %d denials %d are neither written nor counted", o.denied, o.uncounted)
		}
		return nil
	}
	testutil.Eventually(t, k.name+": every denial is written, or counted as lost", balance)
	testutil.Eventually(t, k.name+": the collector hears again", func() error {
		if int(f.received.Load()) == received {
			return errors.New("nothing has come")
		}
		return nil
	})
	return o
}

// TestFaults holds that no fault opens what is denied, breaks what is allowed, or loses an alert that is not counted; and prints
// the table.
func TestFaults(t *testing.T) {
	last := faultLast
	if text := os.Getenv(envFaultSeconds); text != "" {
		n, err := strconv.Atoi(text)
		check(t, err)
		last = time.Duration(n) * time.Second
	}
	f := newFaulty(t)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n|---|---|---|---|---|---|\n", faultHead)
	for i, k := range faults() {
		if !strings.Contains(k.name, os.Getenv(envFault)) {
			continue
		}
		o := f.befall(t, &k, "fault"+strconv.Itoa(i), last)
		fmt.Fprintf(&b, "| %s | %d of %d | %d | %d | %d | %.1f s |\n", k.name, o.leaked, o.denied, o.failed, o.lost, o.uncounted, o.back.Seconds())
		if o.leaked+o.failed > 0 || o.uncounted != 0 && !k.uncounted {
			t.Errorf("%s: %+v", k.name, o)
		}
	}
	fmt.Fprintln(os.Stdout, b.String())
}

const faultHead = "| fault | leaked | allowed calls failed | alerts lost, counted | alerts lost, not counted | alerts are back after |"

// TestFaultTable: the table has a row for each fault.
func TestFaultTable(t *testing.T) {
	for _, k := range faults() {
		if !strings.Contains(faultTable, "\n| "+k.name+" |") {
			t.Errorf("faults.md has no row %s", k.name)
		}
	}
	if !strings.Contains(faultTable, faultHead) {
		t.Errorf("faults.md has other columns than %s", faultHead)
	}
}
