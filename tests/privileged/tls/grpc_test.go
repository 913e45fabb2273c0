package tls

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/sallyport/sallyport/tests/testutil/calls"
)

// callArg ADDRESS METHOD makes this program one that calls a method by grpc-go, and prints what came of it.
const callArg = "sallyport-call"

// call calls a method, which takes and gives nothing.
func call(address, method string) error {
	client, err := calls.Dial(address, credentials.NewTLS(insecure()))
	if err != nil {
		return err
	}
	if err := client.Call(method); err != nil {
		return err
	}
	fmt.Println("welcome")
	return nil
}

// grpcSite starts a server of grpc-go behind the node that has every method.
func (s *scene) grpcSite(t *testing.T) site {
	t.Helper()
	pair := loadedPair(t)
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, 0))
	server := calls.Serve(t, l, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	return site{name: "grpc-go", addr: l.Addr().(*net.TCPAddr).AddrPort(), http2: true, saw: func(method string) bool {
		return slices.Contains(server.Seen(), method)
	}}
}
