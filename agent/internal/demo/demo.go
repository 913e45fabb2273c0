// Package demo shows the main job on this machine: a real container whose main program reaches what
// its policy allows, and a shell exec'd into it that the kernel stops, with the alert in a real
// syslog. It runs the agent itself, through daemon, and everything else by the programs a person
// would use: containerd, ctr, rsyslogd.
//
// It imports daemon, config and api of the agent, and no package of the kernel side.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/agent/internal/config"
)

// stageEnv tells the second stage, which runs in namespaces of its own, from the first.
const stageEnv = "SALLYPORT_DEMO_STAGE"

// patience bounds every wait: far more than anything takes, also on an emulated machine.
const patience = 2 * time.Minute

// Run shows the demo on out, with the given steps of the enforcement ladder. It returns
// nil only if all of it was observed.
func Run(ctx context.Context, steps []config.Step, out io.Writer) error {
	if os.Getenv(stageEnv) == "" {
		return isolate(ctx, out)
	}
	s := &show{out: out, started: time.Now()}
	return s.run(ctx, steps)
}

// isolate runs the program again in a mount and a network namespace of its own, which take with them
// whatever the demo makes there.
func isolate(ctx context.Context, out io.Writer) error {
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "rsyslogd", "busybox"} {
		if _, err := lookPath(program); err != nil {
			return fmt.Errorf("%w: install it (make setup does)", err)
		}
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), stageEnv+"=1")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGTERM,
	}
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return errors.New("the demo did not show all it should; see above")
	}
	return err
}

// show is one run of the demo.
type show struct {
	out     io.Writer
	started time.Time
	dir     string // of everything the demo writes
	undo    []func() error
}

// step says what is done now.
func (s *show) step(format string, args ...any) {
	fmt.Fprintf(s.out, "[%5.1fs] %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

// later undoes something at the end, last first.
func (s *show) later(undo func() error) { s.undo = append(s.undo, undo) }

func (s *show) clean() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

func (s *show) run(ctx context.Context, steps []config.Step) (err error) {
	defer func() { err = errors.Join(err, s.clean()) }()
	if err := s.prepare(); err != nil {
		return err
	}
	s.step("a network of three: pod - node - outside, with servers outside")
	net, err := s.network()
	if err != nil {
		return err
	}
	s.step("rsyslogd and containerd, private to the demo")
	log, err := s.syslog(ctx)
	if err != nil {
		return err
	}
	box, err := s.containerd(ctx)
	if err != nil {
		return err
	}
	s.step("the agent: sallyport run")
	agent, err := s.agent(ctx, steps, box, log)
	if err != nil {
		return err
	}
	s.step("a container: its main program fetches http://%s/ again and again", net.outside)
	if err := box.run(ctx, net); err != nil {
		return err
	}
	if err := s.mainReaches(ctx, net); err != nil {
		return err
	}
	if err := s.shellsWithoutPolicy(ctx, box, net); err != nil {
		return err
	}
	return s.shellsWithPolicy(ctx, agent, box, net, log)
}

// wait repeats try until it returns nil, and at last returns its error.
func wait(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
