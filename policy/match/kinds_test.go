package match_test

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// TestJudgeKinds is the meaning of what says who a policy is about.
func TestJudgeKinds(t *testing.T) {
	t.Parallel()
	web := policy.Workload{
		Namespace: "shop", Pod: "web-1", Container: "web", Labels: map[string]string{"app": "web"}, ServiceAccount: "payer",
		NamespaceLabels: map[string]string{"team": "red"},
	}
	pod := match.Process{Workload: web, Origin: policy.OriginMain, Exe: "/usr/bin/python3", Script: "/app/run.py", User: policy.OneID(1000), Group: policy.OneID(5), Groups: []uint32{6}}
	host := match.Process{Workload: policy.Workload{Host: &policy.HostUnit{Unit: "ssh.service", Cgroup: "/system.slice/ssh.service"}}, Origin: policy.OriginHost, Exe: "/usr/sbin/sshd"}
	mixed := pod
	mixed.User, mixed.Group = policy.IDs{1000, 0, 0}, policy.IDs{5, 5, policy.NoID}
	named := pod
	named.Scriptless = true
	const group = "apiVersion: sallyport.dev/v1alpha1\nkind: "
	cluster := func(spec string) string {
		return group + "ClusterProcessPolicy\nmetadata: {name: c}\nspec: {" + spec + ", rules: [{name: r, egress: []}]}\n---\n"
	}
	node := func(spec string) string {
		return group + "HostProcessPolicy\nmetadata: {name: h}\nspec: {" + spec + ", rules: [{name: r, action: Kill}]}\n---\n"
	}
	shop := func(spec, rule string) string {
		return group + "ProcessPolicy\nmetadata: {name: p, namespace: shop}\nspec: {podSelector: {}, " + spec + " rules: [{name: r, " + rule + "}]}\n---\n"
	}
	for _, tt := range []struct {
		name, text string
		p          match.Process
		want       string
	}{
		{"every namespace", cluster("podSelector: {}"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"not the node", cluster("podSelector: {}"), host, "Allow ungoverned"},
		{"namespace by label", cluster("podSelector: {}, namespaceSelector: {matchLabels: {team: red}}"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"namespace by its name", cluster("podSelector: {}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"other namespace", cluster("podSelector: {}, namespaceSelector: {matchLabels: {team: blue}}"), pod, "Allow ungoverned"},
		{"service account", cluster("podSelector: {matchLabels: {app: web}}, serviceAccounts: [shop/payer]"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"service account, any namespace", cluster("podSelector: {}, serviceAccounts: [x, payer]"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"other service account", cluster("podSelector: {}, serviceAccounts: [other/payer]"), pod, "Allow ungoverned"},
		{"the cluster's before the namespace's", shop("", "egress: []") + cluster("podSelector: {}"), pod, "Deny warning default ClusterProcessPolicy:c/r"},
		{"unit", node("hostSelector: {units: [ssh*.service]}"), host, "Kill warning rule HostProcessPolicy:h/r"},
		{"cgroup", node("hostSelector: {cgroups: [/system.slice/**], units: ['*']}"), host, "Kill warning rule HostProcessPolicy:h/r"},
		{"cgroup above", node("hostSelector: {cgroups: [/system.slice]}"), host, "Kill warning rule HostProcessPolicy:h/r"},
		{"unit above", node("hostSelector: {units: [system.slice]}"), host, "Kill warning rule HostProcessPolicy:h/r"},
		{"unit and cgroup of two levels", node("hostSelector: {units: [ssh.service], cgroups: [/system.slice]}"), host, "Allow ungoverned"},
		{"cgroup inside", node("hostSelector: {cgroups: [/system.slice/ssh.service/**]}"), host, "Allow ungoverned"},
		{"other cgroup", node("hostSelector: {cgroups: [/user.slice/**]}"), host, "Allow ungoverned"},
		{"a pod is not the node", node("hostSelector: {}"), pod, "Allow ungoverned"},
		{"user", shop("", "processes: [{users: [0, 1000]}], egress: []"), pod, "Deny warning default shop/p/r"},
		{"other user", shop("", "processes: [{users: [0]}], egress: []"), pod, "Allow ungoverned"},
		{"group", shop("", "processes: [{groups: [5], users: [1000]}], egress: []"), pod, "Deny warning default shop/p/r"},
		{"user, all that it acts under", shop("", "processes: [{users: [1000]}], egress: [{}]"), pod, "Allow rule shop/p/r"},
		{"user, one of several", shop("", "processes: [{users: [1000]}], egress: [{}]"), mixed, "Deny warning default shop/p/r"},
		{"user, all of several", shop("", "processes: [{users: [0, 1000]}], egress: [{}]"), mixed, "Allow rule shop/p/r"},
		{"user, denied by one of several", shop("", "processes: [{users: [1000]}], action: Deny"), mixed, "Deny warning rule shop/p/r"},
		{"user, denied to others", shop("", "processes: [{users: [7]}], action: Deny"), mixed, "Allow ungoverned"},
		{"group that is not known, allowed", shop("", "processes: [{groups: [5]}], egress: [{}]"), mixed, "Deny warning default shop/p/r"},
		{"group that is not known, denied", shop("", "processes: [{groups: [77]}], action: Deny"), mixed, "Deny warning rule shop/p/r"},
		{"supplementary group, allowed nothing", shop("", "processes: [{groups: [6]}], egress: [{}]"), pod, "Deny warning default shop/p/r"},
		{"supplementary group, denied", shop("", "processes: [{groups: [6]}], action: Deny"), pod, "Deny warning rule shop/p/r"},
		{"script that is not known, allowed", shop("", "processes: [{scripts: [{interpreter: /usr/bin/python3*, path: /app/**}]}], egress: [{}]"), named, "Allow ungoverned"},
		{"script that is not known, denied", shop("", "processes: [{scripts: [{interpreter: /usr/bin/python3*, path: /x}]}], action: Deny"), named, "Deny warning rule shop/p/r"},
		{"script", shop("", "processes: [{scripts: [{interpreter: /usr/bin/python3*, path: /app/**}]}], egress: []"), pod, "Deny warning default shop/p/r"},
		{"script of another interpreter", shop("", "processes: [{scripts: [{interpreter: /bin/sh, path: /app/**}, {interpreter: /usr/bin/**, path: /bin/*}]}], egress: []"), pod, "Allow ungoverned"},
		{"script and binary", shop("", "processes: [{binaries: [/bin/sh], scripts: [{interpreter: /usr/bin/python3*, path: /app/**}]}], egress: []"), pod, "Allow ungoverned"},
		{"action audit", shop("", "action: Audit"), pod, "Audit(Deny) warning rule shop/p/r"},
		{"action kill", shop("onViolation: {verdict: Drop, alert: critical},", "action: Kill"), pod, "Kill critical rule shop/p/r"},
		{"no default of its own", shop("enableDefaultDeny: {egress: false},", "egress: []"), pod, "Allow ungoverned"},
		{"no default, other's", shop("enableDefaultDeny: {egress: false},", "egress: [{}]") + cluster("podSelector: {}"), pod, "Allow rule shop/p/r"},
		{"default of its own", shop("enableDefaultDeny: {egress: true},", "ingress: []"), pod, "Deny warning default shop/p/enable-default-deny"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policies, err := policy.Parse("test.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			e := match.Explain(match.Input{Policies: policies}, tt.p, call(tcp, "10.0.0.1", 443))
			if got := short(e.Decision); got != tt.want {
				t.Errorf("got %s, not %s\n%s\n%+v", got, tt.want, e.Why, e.Rules)
			}
		})
	}
}
