package learn_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/policy/learn"
	"github.com/sallyport/sallyport/policy/match"
)

// unitLine makes an event of a unit of the node.
func unitLine(at, unit, cgroup, more string) string {
	return fmt.Sprintf(`{"time":"2026-11-01T10:00:%sZ","kind":"connect","call":"connect","workload":%[3]q,"container":%[2]q,"containerID":%[3]q,`+
		`"containerType":"Unit","origin":"Main","binary":"/usr/sbin/daemon","verdict":"Allow",%s}`+"\n", at, unit, cgroup, more)
}

func TestLearnUnits(t *testing.T) {
	t.Parallel()
	const sessions = "/user.slice/user-1000.slice/"
	seen := unitLine("01", "nginx.service", "/system.slice/nginx.service", `"peer":"10.0.0.9:8080/TCP"`) +
		strings.Replace(unitLine("02", "nginx.service", "/system.slice/nginx.service", `"peer":"10.0.0.7:50000/TCP","local":"10.0.0.1:80/TCP"`), `"call":"connect"`, `"call":"accept"`, 1) +
		unitLine("03", "session-3.scope", sessions+"session-3.scope", `"peer":"10.0.0.1:22/TCP"`) +
		unitLine("04", "session-c12.scope", sessions+"session-c12.scope", `"peer":"10.0.0.1:22/TCP"`) +
		unitLine("05", "", "/batch/a*b", `"peer":"10.0.0.2:80/TCP"`) +
		strings.Replace(unitLine("06", "nginx.service", "/system.slice/nginx.service", `"peer":"10.6.6.6:80/TCP"`), "Main", "Exec", 1) +
		unitLine("07", `\xff.service`, `/system.slice/\xff.service`, `"peer":"10.0.0.2:80/TCP"`) +
		unitLine("08", "ssh.service", "/user.slice/another.service", `"peer":"10.0.0.2:80/TCP"`) // its name is not its cgroup's
	r := learnFrom(t, seen, learn.Options{Mode: policy.ModeAudit})
	const want = `# Learnt from what was seen once, 2026-11-01 10:00:05 UTC.
# Cgroups of the node: /batch/a*b.
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata:
  name: a-b
spec:
  hostSelector: {cgroups: [/batch/a\*b]}
  mode: Audit
  rules:
  - name: main-daemon
    processes:
    - origins: [Main]
      binaries: [/usr/sbin/daemon]
    egress:
    # once, 2026-11-01 10:00:05 UTC
    - toCIDR: [10.0.0.2]
      toPorts:
      - ports: [{port: "80", protocol: TCP}]
  # What was not seen is not allowed.
  - name: rest
    egress: []
    ingress: []
---
# Learnt from what was seen 2 times, 2026-11-01 10:00:01 to 2026-11-01 10:00:02 UTC.
# Cgroups of the node: /system.slice/nginx.service.
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata:
  name: nginx-service
spec:
  hostSelector: {units: [nginx.service], cgroups: [/system.slice/nginx.service]}
  mode: Audit
  rules:
  - name: main-daemon
    processes:
    - origins: [Main]
      binaries: [/usr/sbin/daemon]
    egress:
    # once, 2026-11-01 10:00:01 UTC
    - toCIDR: [10.0.0.9]
      toPorts:
      - ports: [{port: "8080", protocol: TCP}]
    ingress:
    # once, 2026-11-01 10:00:02 UTC
    - fromCIDR: [10.0.0.7]
      toPorts:
      - ports: [{port: "80", protocol: TCP}]
  # What was not seen is not allowed.
  - name: rest
    egress: []
    ingress: []
---
# Learnt from what was seen 2 times, 2026-11-01 10:00:03 to 2026-11-01 10:00:04 UTC.
# Cgroups of the node: /user.slice/user-1000.slice/session-3.scope, /user.slice/user-1000.slice/session-c12.scope.
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata:
  name: session-scope
spec:
  hostSelector: {units: [session-*.scope], cgroups: [/user.slice/user-1000.slice/session-*.scope]}
  mode: Audit
  rules:
  - name: main-daemon
    processes:
    - origins: [Main]
      binaries: [/usr/sbin/daemon]
    egress:
    # 2 times, 2026-11-01 10:00:03 to 2026-11-01 10:00:04 UTC
    - toCIDR: [10.0.0.1]
      toPorts:
      - ports: [{port: "22", protocol: TCP}]
  # What was not seen is not allowed.
  - name: rest
    egress: []
    ingress: []
`
	if diff := cmp.Diff(want, string(r.YAML)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	leftOut := map[string]uint64{"it is from an exec session (--include-exec)": 1, "no policy can name the unit or its cgroup": 2}
	if diff := cmp.Diff(leftOut, r.LeftOut); diff != "" || r.Learnt != 5 {
		t.Errorf("learnt from %d events; left out (-want +got)\n%s", r.Learnt, diff)
	}
}

// TestLearntUnitsAreTheirsOnly: what is learnt of a unit allows what was seen there, denies the rest there, and says nothing
// of another unit, nor of one with its name that somebody else has made.
func TestLearntUnitsAreTheirsOnly(t *testing.T) {
	t.Parallel()
	seen := unitLine("01", "nginx.service", "/system.slice/nginx.service", `"peer":"10.0.0.9:8080/TCP"`)
	log, err := flows.Read(strings.NewReader(seen), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := learn.Learn(log, learn.Options{Mode: policy.ModeEnforce})
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Policies: r.Policies}
	process, call := log.Flows[0].Process, log.Flows[0].Call
	if d := match.Judge(in, process, call); d.Verdict != policy.VerdictAllow || d.Reason != policy.ReasonRule {
		t.Errorf("what was seen: %+v", d)
	}
	other := call
	other.Port++
	if d := match.Judge(in, process, other); d.Verdict != policy.VerdictDeny {
		t.Errorf("what was not seen: %+v", d)
	}
	for _, cgroup := range []string{"/system.slice/ssh.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service"} {
		process.Workload.Host = &policy.HostUnit{Unit: policy.UnitOf(cgroup), Cgroup: cgroup}
		if d := match.Judge(in, process, other); d.Reason != policy.ReasonUngoverned {
			t.Errorf("in %s: %+v", cgroup, d)
		}
	}
}
