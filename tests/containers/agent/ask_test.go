package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

const (
	metricsAddress = "127.0.0.1:9464" // in the network namespace of the test's node
	maxRSS         = 60 << 20         // bytes
	keptEvents     = 4096             // of alerts, and of other events
)

// TestAgentTells asks a running agent in every way there is.
func TestAgentTells(t *testing.T) {
	s := newScene(t)
	s.agent.conf.metrics = metricsAddress
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")
	more(t, "the main program connects", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 2)

	t.Run("status", s.testStatus)
	t.Run("observe", s.testObserve)
	t.Run("follow", func(t *testing.T) { s.testFollow(t, web) })
	t.Run("JSON lines", s.testJSONLines)
	t.Run("metrics", s.testMetrics)
	t.Run("memory", func(t *testing.T) { s.testMemory(t, web) })
}

func (s *scene) testStatus(t *testing.T) {
	st := s.agent.Status(t)
	name := s.containerd.Namespace + "/web"
	if st.Adopted || st.Revision == 0 || st.Kernel == "" || len(st.Policies) != 1 || len(st.Workloads) != 1 {
		t.Fatalf("the status is %+v", st)
	}
	if p := st.Policies[0]; p.Name != name || p.File != "web.yaml" || p.Mode != "Enforce" || p.Error != "" || !slices.Equal(p.Workloads, []string{name}) {
		t.Errorf("the policy is %+v", p)
	}
	w := st.Workloads[0]
	if w.Name != name || w.ContainerID != "web" || w.Cgroup != "/"+name || w.Provisional || w.Note != "" || w.GateInterface != s.net.Gate.Attrs().Name {
		t.Errorf("the workload is %+v", w)
	}
	for _, c := range append(st.Losses, st.Errors...) {
		if c.Count != 0 {
			t.Errorf("%d were counted at %s", c.Count, c.Site)
		}
	}
	var hooks []string
	for _, h := range st.Hooks {
		hooks = append(hooks, h.Name)
		if h.State != "HOOK_STATE_ATTACHED" || h.Step == "report" || strings.HasSuffix(h.Program, " on 0 veths") {
			t.Errorf("a hook is %+v", h)
		}
	}
	if want := []string{"label", "exec", "create", "connect", "sctp", "sendmsg", "bind", "listen", "accept", "option", "ktls", "trace", "receive", "unix", "signal", "bpf", "packet", "veth"}; !slices.Equal(hooks, want) {
		t.Errorf("the hooks are %q, want %q", hooks, want)
	}
	r := s.agent.Run(t, "status", "--socket", s.agent.Path("api.sock"), "-o", "columns")
	for _, line := range []string{
		`agent +\S+, up \d+s`, `programs +loaded afresh`, `revision +\d+`,
		`HOOK +STEP +STATE +PROGRAM +DOES NOT STOP`, `connect +(lsm|fmod_ret|cgroup) +attached +judge_\S+.*`, `veth +gate +attached +gate_tc on 1 veths +-`,
		`POLICY +MODE +WORKLOADS +FILE`, name + ` +Enforce +1 +web.yaml`,
		`WORKLOAD +CONTAINER +GOVERNED +RULESET +GATE +NOTE`, name + ` +web +yes +\d+ +` + s.net.Gate.Attrs().Name,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(r.Stdout) {
			t.Errorf("no line %q in\n%s", line, r.Stdout)
		}
	}
}

func (s *scene) testObserve(t *testing.T) {
	server := s.net.ServerAddr.String()
	for _, test := range []struct {
		filters []string
		matches func(event) bool // nil: nothing is to be there
	}{
		{[]string{"--namespace", s.containerd.Namespace}, func(e event) bool { return e.Namespace == s.containerd.Namespace }},
		{[]string{"--namespace", "other"}, nil},
		{[]string{"--pod", "web"}, func(e event) bool { return e.Pod == "web" && e.Workload == s.containerd.Namespace+"/web" }},
		{[]string{"--pod", "other"}, nil},
		{[]string{"--container", "web"}, func(e event) bool { return e.Container == "web" && e.ContainerID == "web" }},
		{[]string{"--container", "other"}, nil},
		{[]string{"--origin", "Exec"}, func(e event) bool { return e.Origin == "Exec" && e.Session != "" }},
		{[]string{"--origin", "Main"}, func(e event) bool { return e.Origin == "Main" && e.Session == "" }},
		{[]string{"--origin", "Probe,Host,Unknown"}, nil},
		{[]string{"--binary", "/bin/vict*"}, func(e event) bool { return e.Binary == "/bin/victim" }},
		{[]string{"--binary", "/usr/bin/*"}, nil},
		{[]string{"--verdict", "Deny"}, func(e event) bool {
			return e.Verdict == "Deny" && e.Rule == s.containerd.Namespace+"/web/shells" && e.Severity == "critical" && e.Origin == "Exec"
		}},
		{[]string{"--verdict", "Audit,Drop,Kill,Reset"}, nil},
		{[]string{"--peer", server}, func(e event) bool { return strings.HasPrefix(e.Peer, server+":") }},
		{[]string{"--peer", "192.0.2.1/32,2001:db8:ffff::/48"}, nil},
		{[]string{"--kind", "session-start"}, func(e event) bool { return e.Kind == "session-start" && e.Origin == "Exec" }},
		{[]string{"--kind", "exec,exit"}, func(e event) bool { return e.Kind == "exec" || e.Kind == "exit" }},
		{[]string{"--kind", "connect", "--origin", "Main", "--verdict", "Deny"}, nil},
		{[]string{"--since", "1h", "--kind", "connect"}, func(e event) bool { return e.Kind == "connect" && e.Call == "connect" && e.PID != 0 }},
	} {
		events := s.agent.Observe(t, test.filters...)
		if (len(events) > 0) != (test.matches != nil) {
			t.Errorf("%q gives %d events: %+v", test.filters, len(events), events)
		}
		for _, e := range events {
			if test.matches != nil && !test.matches(e) {
				t.Errorf("%q gives %+v", test.filters, e)
				break
			}
		}
	}
	for filter, value := range map[string]string{"--origin": "Somebody", "--peer": "nowhere", "--verdict": "Perhaps", "--kind": "odd"} {
		r := s.agent.Run(t, "observe", "--socket", s.agent.Path("api.sock"), filter, value)
		wantRefusal(t, r, 2, value)
	}
}

// testFollow observes in columns what happens after the observer came.
func (s *scene) testFollow(t *testing.T, web *testutil.Container) {
	var out bytes.Buffer
	cmd := exec.Command(s.agent.Program, "observe", "-f", "-o", "columns", "--verdict", "Deny", "--socket", s.agent.Path("api.sock"))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for buffer := make([]byte, 4096); ; {
			n, err := pipe.Read(buffer)
			if err != nil {
				return
			}
			lines <- string(buffer[:n])
		}
	}()
	want := regexp.MustCompile(fmt.Sprintf(`(?m)^\d\d:\d\d:\d\d\.\d{3} Deny +%s/web +denied connect %s:%d/TCP by Exec /bin/victim in %[1]s/web \(container web\): rule %[1]s/web/shells$`,
		s.containerd.Namespace, s.net.ServerAddr, forbiddenPort))
	again := time.NewTicker(500 * time.Millisecond) // when it listens is not known
	defer again.Stop()
	for deadline := time.After(program.StartTime); !want.Match(out.Bytes()); {
		select {
		case line := <-lines:
			out.WriteString(line)
		case <-again.C:
			s.wantShell(t, web, "EPERM")
		case <-deadline:
			t.Fatalf("it wrote:\n%s", out.String())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range lines { // until it ends
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted it ended with %v", err)
	}
}

func (s *scene) testJSONLines(t *testing.T) {
	want := fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, forbiddenPort)
	testutil.Eventually(t, "the denial is in the file", func() error {
		for _, e := range s.agent.alerts(t) {
			if e.Verdict == "Allow" || e.Kind == "exec" {
				t.Fatalf("the alerts hold traffic: %+v", e)
			}
			if e.Verdict == "Deny" && e.Peer == want && e.Origin == "Exec" && e.Pod == "web" && e.Rule == s.containerd.Namespace+"/web/shells" {
				return nil
			}
		}
		return errors.New("no such line")
	})
	info, err := os.Stat(s.agent.Path("alerts.jsonl"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
}

// page is what the agent's metrics endpoint answers.
func (s *scene) page(t *testing.T) (page []byte) {
	t.Helper()
	s.net.Node.Do(t, func() error {
		conn, err := net.Dial("tcp", metricsAddress)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // all was read
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		page, err = io.ReadAll(conn)
		return err
	})
	return page
}

func (s *scene) testMetrics(t *testing.T) {
	page := s.page(t)
	for metric, least := range map[string]float64{
		`sallyport_judge_verdicts_total{call="connect",reason="rule",verdict="Deny"}`:  1,
		`sallyport_judge_verdicts_total{call="connect",reason="rule",verdict="Allow"}`: 1,
		`sallyport_tell_events_total{kind="session-start"}`:                            1,
		`sallyport_label_containers`:                                                   1,
		`sallyport_judge_policy_revision`:                                              1,
		`sallyport_tell_sink_sent_total{sink="jsonl"}`:                                 1,
		`process_resident_memory_bytes`:                                                1,
	} {
		found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(metric) + ` (\S+)\r?$`).FindSubmatch(page)
		if found == nil {
			t.Errorf("no metric %s", metric)
			continue
		}
		if value, err := strconv.ParseFloat(string(found[1]), 64); err != nil || value < least {
			t.Errorf("metric %s is %s, want at least %v", metric, found[1], least)
		}
	}
	if t.Failed() {
		t.Logf("the page is\n%s", page)
	}
}

// testMemory makes the agent keep as many events as it can.
func (s *scene) testMemory(t *testing.T, web *testutil.Container) {
	execs := keptEvents / 2 // an exec and an exit each
	if testutil.InVM() {
		execs /= 10 // there is no time for more
	}
	r := web.Exec(t, "sh", "-c", fmt.Sprintf("victim -- loop-tcp %s %d %d 0; i=0; while [ $i -lt %d ]; do /bin/victim -- sleep 0; i=$((i+1)); done",
		s.net.ServerAddr, forbiddenPort, keptEvents, execs))
	if want := fmt.Sprintf("loop-tcp: ok=0 eperm=%d other=0\n", keptEvents); r.Stdout != want {
		t.Errorf("a loop of denied connects wrote %q, want %q", r.Stdout, want)
	}
	kept := uint64(len(s.agent.Observe(t)))
	for _, lost := range s.agent.Status(t).Losses { // a machine that is slow enough may lose some, and says so
		kept += lost.Count
	}
	if want := uint64(keptEvents + 2*execs); kept < want {
		t.Errorf("%d events are kept or told to be lost, want at least %d", kept, want)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.agent.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no VmRSS in %s", text)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the agent's resident memory is %.1f MiB", float64(kib)/1024)
	if kib<<10 > maxRSS {
		t.Errorf("that is more than %d MiB", maxRSS>>20)
	}
}
