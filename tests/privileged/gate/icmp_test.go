package gate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// freeRules gives the container free rules of its own: %s is their body.
const freeRules = `
---
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: free, namespace: default}
spec:
  podSelector: {matchLabels: {app: free}}
  rules:
%s`

// rulesOfFree puts rules of the container free in force, besides those of web.
func (s *scene) rulesOfFree(t *testing.T, body string) {
	t.Helper()
	s.swap(t, tcpRule+strings.ReplaceAll(fmt.Sprintf(freeRules, body), "SERVERS", `"%[1]s/32", "%[2]s/128"`))
}

// TestTypesOfMessagesOut: rules that name types of ICMP messages, by ping sockets and by raw ones, allowed and denied.
func TestTypesOfMessagesOut(t *testing.T) {
	s := newScene(t, 0)
	prog := victim.Build(t)
	s.Pod.Do(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	})
	const echo, other = "[{type: 8}, {family: IPv6, type: 128}]", "[{type: 13}, {family: IPv6, type: 129}]"
	for _, tc := range []struct {
		name, rules string
		passes      bool
	}{
		{"allowed", "  - {name: a, egress: [{toCIDR: [SERVERS], icmps: [{fields: " + echo + "}]}]}", true},
		{"allowed elsewhere", "  - {name: a, egress: [{toCIDR: [203.0.113.0/24], icmps: [{fields: " + echo + "}]}]}", false},
		{"another type allowed", "  - {name: a, egress: [{toCIDR: [SERVERS], icmps: [{fields: " + other + "}]}]}", false},
		{"denied", "  - {name: a, action: Deny, egress: [{icmps: [{fields: " + echo + "}]}]}", false},
		{"another type denied", "  - {name: a, action: Deny, egress: [{icmps: [{fields: " + other + "}]}]}", true},
		{"denied to a process, its sockets too", "  - {name: a, action: Deny, processes: [{origins: [Main, Exec]}], egress: [{icmps: [{fields: " + echo + "}]}]}", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.rulesOfFree(t, tc.rules)
			for _, f := range s.families() {
				for _, attempt := range []string{"ping", "ping-raw"} {
					got := s.free.Command(prog, "--", attempt, f.server.String()).Run(t)
					if passed := got == attempt+": ok"; passed != tc.passes {
						t.Errorf("family %s: %s, want that it passes: %v", f.name, got, tc.passes)
					}
				}
			}
		})
	}
	s.expectNoForeign(t)
}

// TestTypesOfMessagesIn: an echo request that the pod's kernel would answer is judged, again after every change.
func TestTypesOfMessagesIn(t *testing.T) {
	s := newScene(t, 0)
	prog := victim.Build(t)
	const rule = `
  - {name: echo, ingress: [{fromCIDR: ["%%[1]s/32", "%%[2]s/128"], icmps: [{fields: [{type: %d}, {family: IPv6, type: %d}]}]}]}
`
	for _, tc := range []struct {
		name, rules string
		passes      bool
	}{
		{"allowed", tcpRule + fmt.Sprintf(rule, 8, 128), true},
		{"not allowed", tcpRule, false},
		{"allowed again", tcpRule + fmt.Sprintf(rule, 8, 128), true},
		{"another type allowed", tcpRule + fmt.Sprintf(rule, 13, 129), false},
		{"denied to Host, which the kernel is", tcpRule + fmt.Sprintf(rule, 8, 128) + "  - {name: no, action: Deny, processes: [{origins: [Host]}]}\n", false},
		{"denied to a program, which the kernel is not", tcpRule + fmt.Sprintf(rule, 8, 128) + "  - {name: no, action: Deny, processes: [{binaries: [\"/**\"]}]}\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.swap(t, tc.rules)
			for _, f := range s.families() {
				var got string
				s.Server.Do(t, func() error {
					out, err := exec.CommandContext(t.Context(), prog, "--", "ping-raw", f.pod.String()).Output()
					got = strings.TrimSpace(string(out))
					if exit := (&exec.ExitError{}); errors.As(err, &exit) {
						return nil // what it says is looked at below
					}
					return err
				})
				if passed := got == "ping-raw: ok"; passed != tc.passes {
					t.Errorf("family %s: %s, want that it passes: %v", f.name, got, tc.passes)
				}
			}
		})
	}
	testutil.Eventually(t, "the verdict on an echo that came in", func() error {
		for _, e := range s.seen(event.KindFlow) {
			if e.Call == event.CallPacketIn && e.Subject.Origin == event.OriginHost && e.Verdict == event.VerdictDeny {
				return nil
			}
		}
		return os.ErrNotExist
	})
	s.expectNoForeign(t)
}
