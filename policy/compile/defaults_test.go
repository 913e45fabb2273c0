package compile_test

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/match"
)

// TestNoDefaultBesideDefaultsOfSome: a rule that makes nothing default-deny allows its peers where others make only some processes
// default-deny, and changes nothing for the rest.
func TestNoDefaultBesideDefaultsOfSome(t *testing.T) {
	t.Parallel()
	in := policy.Input{
		Policies: []*policy.Policy{
			optional(parse(t, "a", "  - {name: dns, egress: [{toCIDR: [10.96.0.10/32]}]}")),
			parse(t, "b", "  - {name: shells, processes: [{origins: [Exec]}], egress: [{toCIDR: [10.0.0.1/32]}]}"),
			parse(t, "c", "  - {name: tool, processes: [{binaries: [/bin/tool], users: [7]}], egress: []}"),
			parse(t, "d", "  - {name: job, processes: [{scripts: [{interpreter: /bin/sh, path: /job}, {interpreter: /bin/sh, path: /other}]}], egress: []}"),
		},
		Workloads: []policy.Workload{{Key: 1, Namespace: "default", Container: "web", Labels: map[string]string{"app": "web"}}},
	}
	tables, err := compile.Everything().Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	resolver, other, far := netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for name, tt := range map[string]struct {
		p                    policy.Process
		resolver, other, far policy.Verdict
	}{
		"nobody's":            {policy.Process{Origin: policy.OriginMain, Exe: "/bin/a"}, "Allow", "Allow", "Allow"},
		"a shell":             {policy.Process{Origin: policy.OriginExec, Exe: "/bin/a"}, "Allow", "Allow", "Deny"},
		"a tool of user 7":    {policy.Process{Origin: policy.OriginMain, Exe: "/bin/tool", User: policy.OneID(7)}, "Allow", "Deny", "Deny"},
		"that may become 7":   {policy.Process{Origin: policy.OriginMain, Exe: "/bin/tool", User: policy.IDs{1, 7, 1}}, "Allow", "Deny", "Deny"},
		"a tool of user 8":    {policy.Process{Origin: policy.OriginMain, Exe: "/bin/tool", User: policy.OneID(8)}, "Allow", "Allow", "Allow"},
		"the second script":   {policy.Process{Origin: policy.OriginMain, Exe: "/bin/sh", Script: "/other"}, "Allow", "Deny", "Deny"},
		"another script":      {policy.Process{Origin: policy.OriginMain, Exe: "/bin/sh", Script: "/third"}, "Allow", "Allow", "Allow"},
		"a tool from a shell": {policy.Process{Origin: policy.OriginExec, Exe: "/bin/tool", User: policy.OneID(7)}, "Allow", "Allow", "Deny"},
	} {
		p := tt.p
		p.Workload = in.Workloads[0]
		for peer, want := range map[netip.Addr]policy.Verdict{resolver: tt.resolver, other: tt.other, far: tt.far} {
			c := policy.Call{Protocol: 6, Peer: peer, Port: 53}
			reference, got := match.Judge(in, p, c), tables.Judge(p, c)
			if reference.Verdict != want || got != expect(reference) {
				t.Errorf("%s to %s: want %s, the reference says %+v, the tables %+v", name, peer, want, reference, got)
			}
		}
	}
}
