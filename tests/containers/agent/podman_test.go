package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
	"github.com/sallyport/sallyport/tests/victim"
)

// mainOnly lets the main program of every container reach one server, and sessions nothing.
const mainOnly = `apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: main-only}
spec:
  podSelector: {}
  rules:
  - name: main
    processes: [{origins: [Main]}]
    egress: [{toCIDR: [%s/32], toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`

// TestPodman starts containers by podman, with runc and with crun, whose very first instruction is a connect: the OCI hook
// must have brought the policy into force before. crun needs a machine with cgroup v2 alone, and gets to see one.
func TestPodman(t *testing.T) {
	for _, tc := range []struct {
		name, runtime string
		pureV2        bool
		refused       string // what podman shows of a hook that refused
	}{
		{"runc, the machine's cgroups", "runc", false, "refusing the container"},
		{"runc, cgroup v2", "runc", true, "refusing the container"},
		{"crun, cgroup v2", "crun", true, "error executing hook"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := testutil.NewPodman(t, tc.runtime, tc.pureV2)
			s := &scene{net: testutil.NewNet(t, testutil.NetOptions{})}
			s.forbidden = testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, forbiddenPort))
			s.agent = newAgent(t, s.net.Node, conf{})
			s.agent.Policy(t, "main-only.yaml", fmt.Sprintf(mainOnly, s.net.ServerAddr, testutil.EchoPort))
			s.agent.Start(t)
			p.Image(t, image, testutil.File{Path: "/bin/victim", Source: victim.Build(t)})
			s.hookOf(t, p)
			s.byPodman(t, p)
			s.agent.Stop(t)
			if r := s.first(t, p, forbiddenPort); r.Code == 0 || !strings.Contains(r.Stderr, tc.refused) {
				t.Errorf("a container without an agent: exit code %d: %s", r.Code, r.Stderr)
			}
			s.forbidden.ExpectNone(t)
		})
	}
}

// hookOf gives podman the hook of contrib, changed as an operator would: another path, and no container without a policy.
func (s *scene) hookOf(t *testing.T, p *testutil.Podman) {
	t.Helper()
	text, err := os.ReadFile("../../../contrib/hooks/sallyport.json")
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Version string `json:"version"`
		Hook    struct {
			Path    string   `json:"path"`
			Args    []string `json:"args"`
			Timeout int      `json:"timeout"`
		} `json:"hook"`
		When   map[string]any `json:"when"`
		Stages []string       `json:"stages"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	spec.Hook.Path, spec.Hook.Timeout = program.Hook(t), 60
	spec.Hook.Args = []string{"sallyport-hook", "createRuntime", "--timeout", "20s", "--on-failure", "refuse", "--socket", s.agent.Path("api.sock")}
	if text, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Hooks, "sallyport.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// first runs a container that connects with its first instruction.
func (s *scene) first(t *testing.T, p *testutil.Podman, port int) testutil.ExecResult {
	t.Helper()
	return p.Run(t, image, s.net.Pod, []string{"--rm"}, strings.Fields(s.connect(port))...)
}

// byPodman checks what containers of podman get.
func (s *scene) byPodman(t *testing.T, p *testutil.Podman) {
	t.Helper()
	got := func(who string, r testutil.ExecResult, want string) {
		t.Helper()
		if out := strings.TrimSpace(r.Stdout); out != "connect-tcp: "+want {
			t.Errorf("%s got %q, want %s: exit code %d: %s", who, out, want, r.Code, r.Stderr)
		}
	}
	for range 5 {
		got("the first instruction", s.first(t, p, forbiddenPort), "EPERM")
	}
	got("a main program", s.first(t, p, testutil.EchoPort), "ok")
	if r := p.Run(t, image, s.net.Pod, []string{"--detach", "--name", "web"}, "sleep", "1000"); r.Code != 0 {
		t.Fatalf("a container in the background: %s", r.Stderr)
	}
	got("a session", p.Try(t, append([]string{"exec", "web"}, strings.Fields(s.connect(testutil.EchoPort))...)...), "EPERM")
	if late := s.agent.Observe(t, "--kind", "late"); len(late) > 0 {
		t.Errorf("containers were late: %+v", late)
	}
	p.Must(t, "rm", "--force", "--time", "0", "web")
}
