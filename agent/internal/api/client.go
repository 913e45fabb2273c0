package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
)

// What a client can find at the socket's path besides an agent.
var (
	ErrNotRunning   = errors.New("no agent is running")
	ErrNotPermitted = errors.New("only root may talk to the agent")
)

// Client is a connection to the agent.
type Client struct {
	apiv1.SallyportClient
	conn *grpc.ClientConn
}

// Dial connects to the agent's socket. Its errors wrap ErrNotRunning and ErrNotPermitted where
// they apply.
func Dial(ctx context.Context, socket string) (*Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, "unix", socket)
	}
	// gRPC connects later, tries again and again, and tells little: so look first.
	probe, err := dial(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("connecting to %s: %w", socket, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("connecting to %s: %w", socket, ErrNotPermitted)
	case err != nil:
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	_ = probe.Close() // nothing was sent
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	return &Client{SallyportClient: apiv1.NewSallyportClient(conn), conn: conn}, nil
}

// Close ends the connection and all its calls.
func (c *Client) Close() error { return c.conn.Close() }
