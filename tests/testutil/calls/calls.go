// Package calls has both sides of gRPC by grpc-go, for tests of what its calls are to who reads them on their way: methods take
// nothing and give nothing.
package calls

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"
)

// patience is how long a call may take, and be tried again.
const patience = 20 * time.Second

// Client is a connection, as grpc-go understands it: it makes another where one has ended.
type Client struct{ conn *grpc.ClientConn }

// Dial makes a client of the server at an address.
func Dial(address string, by credentials.TransportCredentials) (*Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(by))
	return &Client{conn}, err
}

// Call calls a method, such as /ship.v1.Bay/Land.
func (c *Client) Call(method string, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}, options...)
}

// Server has every method, and remembers which were called.
type Server struct {
	mu   sync.Mutex
	seen []string
}

// Serve serves on a listener until the test ends.
func Serve(t *testing.T, on net.Listener, options ...grpc.ServerOption) *Server {
	t.Helper()
	s := &Server{}
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(s.handle))...)
	go func() { _ = server.Serve(on) }() // ends with Stop
	t.Cleanup(server.Stop)
	return s
}

func (s *Server) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	s.mu.Lock()
	s.seen = append(s.seen, method)
	s.mu.Unlock()
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	return stream.SendMsg(&emptypb.Empty{})
}

// Seen are the methods that were called, in that order.
func (s *Server) Seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}
