// Package ladder tests LABEL and JUDGE on every step of the ladder that the running kernel has, with
// real programs in containers made by hand.
package ladder

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

const smoke = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: smoke}
spec:
  podSelector: {}
  rules:
  - name: web
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [192.0.2.0/24]
      toPorts: [{ports: [{port: "80", protocol: TCP}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`

func TestSmoke(t *testing.T) {
	node := pod.NewNode(t)
	prog := victim.Build(t)
	k, err := probes.Open(probes.Config{BPFFS: node.BPFFS, PinDir: "sallyport", CgroupRoot: node.CgroupRoot, ContainerParents: []string{node.Parent}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	j := judge.Open(k)
	defer j.Close()
	if _, err := j.Swap(&compile.Tables{Rulesets: []compile.Ruleset{{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := label.Attach(k); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach([]event.Step{event.StepLSM, event.StepModRet, event.StepCgroup}); err != nil {
		t.Fatal(err)
	}
	for _, h := range j.Hooks() {
		t.Logf("%+v", h)
	}
	g, err := gate.Attach(k)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	c := node.Container(t, "web", 0)
	policies, err := policy.Parse("smoke", []byte(smoke))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := compile.Compile(compile.Input{Policies: policies, Workloads: []compile.Workload{{Key: c.ID, Namespace: "default", Container: "web"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Swap(tables); err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		want string
		args []string
	}{
		{"ENETUNREACH", []string{"connect-tcp", "192.0.2.1", "80"}},
		{"EPERM", []string{"connect-tcp", "192.0.2.1", "80"}},
	} {
		got := c.Command(append([]string{prog, "--"}, tc.args...)...).Run(t)
		if !strings.Contains(got, tc.want) {
			t.Errorf("case %d: got %q, want %s", i, got, tc.want)
		}
	}
}
