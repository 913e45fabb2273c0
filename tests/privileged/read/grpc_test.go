package read

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/calls"
)

// callArg ADDRESS METHODS makes this program one that calls methods by grpc-go, and prints what came of each.
const callArg = "sallyport-call"

// call calls methods, one behind the other.
func call(address, methods string) error {
	client, err := calls.Dial(address, insecure.NewCredentials())
	if err != nil {
		return err
	}
	for method := range strings.SplitSeq(methods, ",") {
		fmt.Println(method, grpcstatus.Code(client.Call(method, grpc.WaitForReady(true))))
	}
	return nil
}

const callRules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: %s
  rules:
  - name: land
    egress:
    - toPorts: [{ports: [{port: 8082, protocol: TCP}], rules: {grpc: [{service: ship.v1.Bay, method: Land}]}}]
`

// TestGRPC: calls of gRPC without TLS are judged by service and method; one that is denied is told to its caller as PermissionDenied,
// who goes on with another connection.
func TestGRPC(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, nginxPort))
	server := calls.Serve(t, l)
	const land, exhaust, other = "/ship.v1.Bay/Land", "/ship.v1.Bay/Exhaust", "/ship.v1.Port/Land"
	before := 0
	for _, c := range []struct{ mode, calls, said, seen string }{
		{"Enforce", land + "," + exhaust + "," + other + "," + land, land + " OK\n" + exhaust + " PermissionDenied\n" + other + " PermissionDenied\n" + land + " OK", land + "," + land},
		{"Audit", exhaust + "," + land, exhaust + " OK\n" + land + " OK", exhaust + "," + land},
	} {
		s.inForce(t, fmt.Sprintf(callRules, c.mode))
		p := s.pod.Command(self, callArg, l.Addr().String(), c.calls)
		if said := p.Run(t); said != c.said {
			t.Errorf("%s: what came of them is %q, want %q; %s", c.mode, said, c.said, p.Complaint())
		}
		seen := server.Seen()
		if got := strings.Join(seen[before:], ","); got != c.seen {
			t.Errorf("%s: the server saw %q", c.mode, got)
		}
		before = len(seen)
	}
	for verdict, would := range map[event.Verdict]event.Verdict{event.VerdictDeny: event.VerdictNone, event.VerdictAudit: event.VerdictDeny} {
		e := s.await(t, func(e event.Event) bool { return e.Path == exhaust && e.Verdict == verdict })
		if e.Method != http.MethodPost || e.Flaw != event.FlawNone || e.Would != would {
			t.Errorf("a call that is denied is told as %+v", e)
		}
	}
}
