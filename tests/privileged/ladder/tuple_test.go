package ladder

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// onePort lets Main serve port 4000, and sessions another: they may listen on 4000, but nobody may come in there.
const onePort = `
  rules:
  - name: serve
    processes: [{origins: [Main]}]
    egress: []
    ingress:
    - fromCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "4000", protocol: TCP}, {port: "4000", protocol: UDP}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    egress: []
    ingress:
    - fromCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "4999", protocol: TCP}, {port: "4999", protocol: UDP}]}]
`

// TestSamePort holds that a verdict is for the process that serves a port and not for addresses and ports: a session
// that takes Main's port, after Main or, for the next peers, beside it, gets nobody in by the verdict that Main's peer
// has, though the peer comes by the very same addresses and ports under the same policy.
func TestSamePort(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		to := netip.AddrPortFrom(r.net.PodAddr, 4000)
		for _, tc := range []struct {
			network, line string
			own           net.Addr
			call          event.Call
		}{
			{"tcp", "listen-tcp POD4 4000 3000", &net.TCPAddr{IP: r.net.ServerAddr.AsSlice(), Port: 40123}, listening(step)},
			{"udp", "udp-server POD4 4000 3000", &net.UDPAddr{IP: r.net.ServerAddr.AsSlice(), Port: 40123}, event.CallBind},
			{"udp", "udp-server 0.0.0.0 4000 3000", &net.UDPAddr{IP: r.net.ServerAddr.AsSlice(), Port: 40124}, event.CallBind},
		} {
			t.Run(tc.line, func(t *testing.T) {
				c := r.container(t, "web")
				r.swap(t, onePort)
				serve := func(origin event.Origin) *pod.Process {
					p := r.victim(c, tc.line)
					p.Start(t)
					r.events.Wait(t, "the server", func(e event.Event) bool {
						return e.Subject.Container == c.ID && e.Subject.Origin == origin && e.Call == tc.call
					})
					return p
				}
				main := serve(event.OriginMain)
				if answer, err := r.askFrom(t, r.net.Server, tc.own, tc.network, to); err != nil || answer != "knock" {
					t.Fatalf("Main answers %q, error %v", answer, err)
				}
				if got := outcome(t, main); got != "ok" {
					t.Fatalf("Main got %s", got)
				}
				shell := serve(event.OriginExec)
				if answer, err := r.askFrom(t, r.net.Server, tc.own, tc.network, to); err == nil {
					t.Errorf("the session answers %q by Main's verdict", answer)
				}
				if got := outcome(t, shell); got != "ETIMEDOUT" { // nobody came
					t.Errorf("the session got %s", got)
				}
				r.events.Wait(t, "the denial", func(e event.Event) bool {
					return e.Subject.Container == c.ID && e.Subject.Origin == event.OriginExec && e.Verdict == event.VerdictDeny
				})
			})
		}
	})
}
