package match_test

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// TestExamplesDoWhatTheySay judges by the files that people copy.
func TestExamplesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	in := match.Input{}
	dir := os.DirFS("../../contrib/policies")
	files, err := policy.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		in.Policies = append(in.Policies, f.Policies...)
	}
	process := func(namespace, container, label string, origin policy.Origin, exe string) match.Process {
		key := map[string]string{"agents": "role"}[namespace]
		if key == "" {
			key = "app"
		}
		w := policy.Workload{Namespace: namespace, Container: container, Labels: map[string]string{key: label}}
		return match.Process{Workload: w, Origin: origin, Exe: exe}
	}
	main := process("default", "web", "web", policy.OriginMain, "/web")
	shell := process("default", "web", "web", policy.OriginExec, "/bin/sh")
	checkout := process("shop", "checkout", "checkout", policy.OriginMain, "/usr/bin/checkout")
	dropped := process("shop", "checkout", "checkout", policy.OriginMain, "/tmp/xmrig")
	sidecar := process("shop", "proxy", "checkout", policy.OriginMain, "/usr/bin/envoy")
	agent := process("agents", "agent", "agent", policy.OriginMain, "/opt/agent/bin/agent")
	pip := process("agents", "agent", "agent", policy.OriginMain, "/usr/bin/python3")
	pip.Script = "/usr/bin/pip3"
	python := process("agents", "agent", "agent", policy.OriginMain, "/usr/bin/python3")
	memfd := process("agents", "agent", "agent", policy.OriginMain, "memfd:a/b")
	for _, tt := range []struct {
		name string
		p    match.Process
		c    match.Call
		want string
	}{
		{"main program", main, call(tcp, "203.0.113.9", 443), "Allow ungoverned"},
		{"exec'd shell", shell, call(tcp, "203.0.113.9", 443), "Deny critical rule default/shells-off-the-network/exec-sessions"},
		{"exec'd shell listens", shell, ingress(call(0, "", 0)), "Deny critical rule default/shells-off-the-network/exec-sessions"},
		{"exec'd shell, loopback", shell, call(tcp, "127.0.0.1", 80), "Deny critical rule default/shells-off-the-network/exec-sessions"},
		{"payment", checkout, call(tcp, "203.0.113.9", 443), "Allow rule shop/checkout/program"},
		{"resolver", checkout, call(udp, "10.96.0.10", 53), "Allow rule shop/checkout/program"},
		{"database", checkout, call(tcp, "10.20.1.1", 5432), "Allow rule shop/checkout/program"},
		{"other database", checkout, call(tcp, "10.20.99.1", 5432), "Deny critical default shop/checkout/program"},
		{"metadata service", checkout, call(tcp, "169.254.169.254", 80), "Deny critical default shop/checkout/program"},
		{"dropped program", dropped, call(tcp, "203.0.113.9", 443), "Deny warning default shop/checkout/rest"},
		{"asked by a pod", checkout, ingress(call(tcp, "10.1.1.1", 8080)), "Allow rule shop/checkout/program"},
		{"asked by the world", checkout, ingress(call(tcp, "203.0.113.9", 8080)), "Deny critical default shop/checkout/program"},
		{"sidecar", sidecar, call(tcp, "198.51.100.1", 443), "Allow ungoverned"},
		{"agent to the model", agent, call(tcp, "198.51.100.1", 443), "Allow rule agents/agent-sandbox/model"},
		{"agent elsewhere", agent, call(tcp, "203.0.113.9", 443), "Reset warning default agents/agent-sandbox/model"},
		{"pip to the mirror", pip, call(tcp, "192.0.2.80", 443), "Allow rule agents/agent-sandbox/packages"},
		{"python to the mirror", python, call(tcp, "192.0.2.80", 443), "Reset warning default agents/agent-sandbox/resolver"},
		{"program without a file", memfd, call(tcp, "192.0.2.80", 443), "Kill critical rule agents/agent-sandbox/no-file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := short(match.Judge(in, tt.p, tt.c)); got != tt.want {
				t.Errorf("got %s, not %s", got, tt.want)
			}
		})
	}
}
