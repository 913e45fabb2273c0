// Package api is the agent's local API: gRPC over a unix socket that only root can use. It owns
// the socket, who may call, what recent records are kept for observers, and the client that the
// command line uses.
//
// It imports alert, probes/event and policy (whose globs filter events), and neither config,
// probes nor runtime: the daemon gives it what it tells.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
)

// StatusSource says what the agent does. The answer belongs to the caller, who may change it. It
// is called from several goroutines.
type StatusSource interface {
	Status(ctx context.Context) (*apiv1.StatusResponse, error)
}

// Governor holds the start of containers. Its error is for the caller to read.
type Governor interface {
	Govern(ctx context.Context, req *apiv1.GovernRequest) (*apiv1.GovernResponse, error)
}

// Config is what a Server needs.
type Config struct {
	Socket    string             // path; its folder is made with mode 0700 if it is missing
	UID       uint32             // the one user who may call; 0: root
	Status    StatusSource       // required
	Governor  Governor           // nil: nobody governs containers by request
	Explainer Explainer          // nil: nobody explains
	Events    *Feed              // required
	Log       logrus.FieldLogger // required
}

// Server is the API on its socket. It is made by Listen and serves while Run runs.
type Server struct {
	apiv1.UnimplementedSallyportServer
	cfg      Config
	listener net.Listener
	lock     *os.File
	close    sync.Once
}

// maxRequest bounds what a caller can send, in bytes. Filters are short.
const maxRequest = 1 << 20

// Listen takes the socket. It replaces one that a dead agent left, and fails with ErrBusy where a
// live one has it.
func Listen(cfg Config) (*Server, error) {
	if cfg.Status == nil || cfg.Events == nil || cfg.Log == nil {
		return nil, errors.New("opening the API: a source of status, a feed and a logger are needed")
	}
	listener, lock, err := listen(cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("opening the API: %w", err)
	}
	cfg.Log = cfg.Log.WithField("component", "api")
	return &Server{cfg: cfg, listener: listener, lock: lock}, nil
}

// Run serves until ctx is done, ends the calls that run, and gives the socket back. It is called
// at most once.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	server := grpc.NewServer(grpc.Creds(onlyUser{uid: s.cfg.UID, log: s.cfg.Log}), grpc.MaxRecvMsgSize(maxRequest), grpc.WaitForHandlers(true))
	apiv1.RegisterSallyportServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(s.listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving the API: %w", err)
	}
	return nil
}

// Close gives the socket back. Run does it too; Close is for a Server that never ran.
func (s *Server) Close() {
	s.close.Do(func() {
		_ = s.listener.Close() // already closed after Serve
		_ = s.lock.Close()     // releases the lock; its file stays, removing it would race
	})
}

// Version says which agent this is.
func (s *Server) Version(context.Context, *apiv1.VersionRequest) (*apiv1.VersionResponse, error) {
	return Build(), nil
}

// Status says what the agent does.
func (s *Server) Status(ctx context.Context, _ *apiv1.StatusRequest) (*apiv1.StatusResponse, error) {
	answer, err := s.cfg.Status.Status(ctx)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	makeValid(answer.ProtoReflect())
	return answer, nil
}

// maxContainerID bounds the id of a container, in bytes.
const maxContainerID = 1024

// Govern holds the start of a container until its policies are in force.
func (s *Server) Govern(ctx context.Context, req *apiv1.GovernRequest) (*apiv1.GovernResponse, error) {
	switch {
	case s.cfg.Governor == nil:
		return nil, status.Error(codes.Unimplemented, "this agent governs no container by request")
	case req.GetId() == "" || len(req.GetId()) > maxContainerID || req.GetPid() == 0:
		return nil, status.Error(codes.InvalidArgument, "a container's id and the pid of its first process are needed")
	}
	answer, err := s.cfg.Governor.Govern(ctx, req)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, status.Error(codes.DeadlineExceeded, err.Error())
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return answer, nil
}

// Observe streams records.
func (s *Server) Observe(req *apiv1.ObserveRequest, stream grpc.ServerStreamingServer[apiv1.ObserveResponse]) error {
	match, err := newFilter(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	o := s.cfg.Events.observe(match)
	defer s.cfg.Events.leave(o)
	for _, r := range o.backlog {
		if err := stream.Send(eventMessage(r)); err != nil {
			return err
		}
	}
	o.backlog = nil
	if !req.GetFollow() {
		return nil
	}
	for {
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case r := <-o.queue:
			// A loss is told with the next event: at the loss the queue was full, so there is one.
			if lost := o.lost.Swap(0); lost > 0 {
				if err := stream.Send(&apiv1.ObserveResponse{Item: &apiv1.ObserveResponse_Lost{Lost: lost}}); err != nil {
					return err
				}
			}
			if err := stream.Send(eventMessage(r)); err != nil {
				return err
			}
		}
	}
}
