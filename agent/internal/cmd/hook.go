package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/agent/internal/api"
	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/runtime/oci"
)

const hookHelp = `Be called by an OCI runtime (runc, crun) before it starts a container.

The runtime writes the container's state to standard input and waits. The agent makes the container known
and puts its policies in force; then the hook ends, and the container's first instruction runs governed.
Runtimes that speak NRI (containerd 1.7 and newer, CRI-O) need no hook: see runtime.nri in config.yaml.
The program sallyport-hook is this command alone, and starts in half the time.

It never holds a start longer than --timeout. Where the agent has not answered by then, or cannot,
--on-failure says what becomes of the container, and standard error says why.`

// The choices of --on-failure.
const (
	onFailureAdmit  = "admit"
	onFailureRefuse = "refuse"
)

// Bounds of --timeout: runtimes bound the start of a container themselves.
const (
	minHookTimeout = 10 * time.Millisecond
	maxHookTimeout = time.Minute
)

func (p Program) hook() *cobra.Command {
	c := &cobra.Command{
		Use: "hook", Short: "Be called by a container runtime", Long: hookHelp, Args: cobra.ArbitraryArgs, RunE: group,
	}
	create := &cobra.Command{
		Use:     "createRuntime",
		Short:   "Hold the start of a container until its policies are in force",
		Long:    hookHelp,
		Example: "  sallyport hook createRuntime --timeout 2s --on-failure refuse <state.json",
		Args:    noArgs,
	}
	timeout := create.Flags().Duration("timeout", 2*time.Second, "longest time to hold the start of a container")
	onFailure := create.Flags().String("on-failure", onFailureAdmit, "what becomes of a container that is not governed in time: admit or refuse")
	config.AddFlags(create.Flags(), "socket")
	create.RunE = func(c *cobra.Command, _ []string) error {
		if *onFailure != onFailureAdmit && *onFailure != onFailureRefuse {
			return usageError{fmt.Errorf("--on-failure is admit or refuse, not %q", *onFailure)}
		}
		if *timeout < minHookTimeout || *timeout > maxHookTimeout {
			return usageError{fmt.Errorf("--timeout is from %s to %s, not %s", minHookTimeout, maxHookTimeout, *timeout)}
		}
		cfg, err := load(c)
		if err != nil {
			return err // the operator's mistake: refused, so that it is seen (fails closed)
		}
		ctx, cancel := context.WithTimeout(c.Context(), *timeout)
		defer cancel()
		err = within(ctx, func() error { return p.govern(ctx, cfg.API.Socket, *onFailure == onFailureRefuse) })
		var broken stateError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &broken):
			return err // no runtime writes this, so there is no container to admit
		case *onFailure == onFailureRefuse:
			return fmt.Errorf("refusing the container: %w", err)
		}
		fmt.Fprintln(p.Stderr, "sallyport: admitting the container before its policies are in force:", visible(reasonOf(err)))
		return nil
	}
	c.AddCommand(create)
	return c
}

// within ends with ctx, whatever work is blocked in: the process is about to end.
func within(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the agent: %w", ctx.Err())
	}
}

// stateError is a state or spec that says nothing of a container.
type stateError struct{ err error }

func (e stateError) Error() string { return e.err.Error() }
func (e stateError) Unwrap() error { return e.err }

// govern asks the agent to govern the container of the state on standard input.
func (p Program) govern(ctx context.Context, socket string, refuse bool) error {
	state, err := oci.ParseState(p.Stdin)
	if err != nil {
		return stateError{err}
	}
	spec, err := oci.ReadSpec(state.Bundle)
	if err != nil {
		return stateError{err}
	}
	client, err := api.Dial(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // everything was read
	req := &apiv1.GovernRequest{
		Id: state.ID, Pid: uint32(state.Pid), Bundle: state.Bundle, Refuse: refuse, // positive: ParseState
		Annotations: oci.Telling(spec.Annotations),
	}
	if spec.Linux != nil {
		req.CgroupsPath = spec.Linux.CgroupsPath
	}
	if _, err := client.Govern(ctx, req); err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	return nil
}

// reasonOf is an error's text without gRPC's own words.
func reasonOf(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
