package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sallyport/sallyport/runtime/identity"
)

// ErrNotFound is wrapped where containerd does not know a container.
var ErrNotFound = errors.New("containerd does not know it")

// Lookup asks containerd about single containers, at once and not by its events: for who holds a container's start
// until it is known. It is safe for use by several goroutines.
type Lookup struct {
	conn   *grpc.ClientConn
	client *client.Client
}

// NewLookup prepares to ask the daemon behind a socket. It does not connect yet: a daemon that is away is an error of
// Describe.
func NewLookup(socket string) (*Lookup, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("preparing to ask containerd: %w", err)
	}
	c, err := client.NewWithConn(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing to ask containerd: %w", err), conn.Close())
	}
	return &Lookup{conn: conn, client: c}, nil
}

// Close gives the connection up.
func (l *Lookup) Close() error { return l.client.Close() }

// Describe says what containerd knows of a container, and the path that its OCI spec asks for its cgroup. Of its task
// it says nothing. The error wraps ErrNotFound where the daemon answers and knows no such container.
func (l *Lookup) Describe(ctx context.Context, namespace, id string) (c identity.Container, cgroupsPath string, err error) {
	record, err := l.get(ctx, namespace, id)
	if err != nil {
		return c, "", err
	}
	e, err := describe(namespace, record)
	if err != nil {
		return c, "", err
	}
	if e.sandboxID != "" && e.Type != identity.TypeSandbox {
		if record, err = l.get(ctx, namespace, e.sandboxID); err != nil {
			return c, "", err
		}
		sandbox, err := describe(namespace, record)
		if err != nil {
			return c, "", err
		}
		if err := e.takeFrom(sandbox); err != nil {
			return c, "", err
		}
	}
	return e.Container, e.cgroupsPath, nil
}

func (l *Lookup) get(ctx context.Context, namespace, id string) (containers.Container, error) {
	record, err := l.client.ContainerService().Get(namespaces.WithNamespace(ctx, namespace), id)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return record, fmt.Errorf("asking for container %s: %w: %w", id, ErrNotFound, err)
	}
	if err != nil {
		return record, fmt.Errorf("asking for container %s: %w", id, err)
	}
	return record, nil
}
