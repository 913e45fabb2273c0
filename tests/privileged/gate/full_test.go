package gate

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// TestFullGates: where there is no room for a pod or its interface, that is an error, calls are judged all the same, and the
// next attempt that finds room gates it.
func TestFullGates(t *testing.T) {
	for _, name := range []string{"gate_by_ifindex", "netns_by_cookie"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 0)
			if err := s.gate.Release(s.veth); err != nil {
				t.Fatal(err)
			}
			free := attached.Fill(t, s.kernel.Maps().Map(name))
			s.Node.Do(t, func() error {
				if err := s.gate.Govern(s.veth); !errors.Is(err, unix.E2BIG) {
					t.Errorf("governing without room: %v", err)
				}
				return nil
			})
			newInsider(t, s.locked).want(t, "EPERM", order{Do: "dial", Network: "tcp", Address: at(s.ServerAddr, 7777)})
			s.Echo.ExpectNone(t)
			free()
			s.govern(t)
			outside := newInsider(t, s.free)
			outside.want(t, "ok", order{Do: "dial", ID: 1, Network: "udp4", Address: at(s.ServerAddr, 7777)})
			s.Echo.Reset()
			outside.want(t, "ok", order{Do: "frames", ID: 1, Address: s.gatewayMAC(), Port: 7777, Value: 5, Count: 1})
			s.Echo.ExpectNone(t) // the gate is there: no frame with a tag leaves
		})
	}
}
