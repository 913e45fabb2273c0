package ladder

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

const serverPolicy = `
  rules:
  - name: serve
    processes: [{origins: [Main]}]
    egress: []
    ingress:
    - fromCIDR: [SERVER4/32, SERVER6/128]
      toPorts: [{ports: [{port: "4000", protocol: TCP}, {port: "4000", protocol: UDP}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`

// TestServe holds that what may come in is served, although nothing may be opened to the outside, and
// that nothing else comes in.
func TestServe(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		for _, tc := range []struct {
			name, network, line string
			from                *testutil.NetNS
			to                  netip.AddrPort
			served              bool
		}{
			{"allowed", "tcp", "listen-tcp POD4 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4000), true},
			{"allowed6", "tcp", "listen-tcp POD6 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr6, 4000), true},
			{"mapped", "tcp", "listen-tcp :: 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4000), true},
			{"other peer", "tcp", "listen-tcp POD4 4000 2000", r.net.Node, netip.AddrPortFrom(r.net.PodAddr, 4000), false},
			{"other peer6", "tcp", "listen-tcp POD6 4000 2000", r.net.Node, netip.AddrPortFrom(r.net.PodAddr6, 4000), false},
			{"other port", "tcp", "listen-tcp POD4 4001 2000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4001), false},
			{"allowed", "udp", "udp-server POD4 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4000), true},
			{"any address", "udp", "udp-server 0.0.0.0 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4000), true},
			{"allowed6", "udp", "udp-server :: 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr6, 4000), true},
			{"mapped", "udp", "udp-server :: 4000 4000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4000), true},
			{"other peer", "udp", "udp-server POD4 4000 2000", r.net.Node, netip.AddrPortFrom(r.net.PodAddr, 4000), false},
			{"other port", "udp", "udp-server POD4 4001 2000", r.net.Server, netip.AddrPortFrom(r.net.PodAddr, 4001), false},
		} {
			t.Run(tc.network+" "+tc.name, func(t *testing.T) {
				c := r.container(t, "web")
				r.swap(t, serverPolicy)
				p := r.victim(c, tc.line)
				p.Start(t)
				r.events.Wait(t, "the server", func(e event.Event) bool {
					last := event.CallBind
					if tc.network == "tcp" {
						last = listening(step)
					}
					return e.Subject.Container == c.ID && e.Call == last
				})
				answer, err := r.ask(t, tc.from, tc.network, tc.to)
				if served := err == nil && answer == "knock"; served != tc.served {
					t.Errorf("answer %q, error %v, want an answer: %t", answer, err, tc.served)
				}
				want := "ETIMEDOUT" // nobody came
				if tc.served {
					want = "ok"
				}
				if got := outcome(t, p); got != want {
					t.Errorf("the server got %s, want %s", got, want)
				}
				r.expect(t, c, tc.line, "EPERM") // the same by a session
			})
		}
		c := r.container(t, "web")
		r.swap(t, serverPolicy)
		r.expect(t, c, "sendto-udp SERVER4 OPEN", "EPERM") // a server may answer, not begin
	})
}
