package tls

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"
)

// callArg ADDRESS METHOD makes this program one that calls a method by grpc-go, and prints what came of it.
const callArg = "sallyport-call"

// call calls a method, which takes and gives nothing.
func call(address, method string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(insecure())))
	if err != nil {
		return err
	}
	defer conn.Close()                                                       // it ends with the program
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // it tries again until then
	defer cancel()
	if err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		return err
	}
	fmt.Println("welcome")
	return nil
}

// grpcSite starts a server of grpc-go behind the node that has every method.
func (s *scene) grpcSite(t *testing.T) site {
	t.Helper()
	dir := t.TempDir()
	keyPair(t, dir)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		seen []string
		l    net.Listener
	)
	s.Server.Do(t, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(s.ServerAddr, 0).String())
		return err
	})
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		mu.Lock()
		seen = append(seen, method)
		mu.Unlock()
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	return site{name: "grpc-go", addr: l.Addr().(*net.TCPAddr).AddrPort(), http2: true, saw: func(method string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(seen, method)
	}}
}
