package testutil

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a process with a mount namespace of its own, or one that it shares with other daemons.
type Daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// DaemonSpec says how a Daemon is started.
type DaemonSpec struct {
	Cmd    *exec.Cmd
	Over   map[string]string // directories that lie over others in its mount namespace: over what, from where
	NetNS  *NetNS            // nil: the test's own
	Mounts *MountNS          // nil: a mount namespace of its own, made from the test's
	Shared bool              // what it mounts reaches its own children's mount namespaces
}

// StartDaemon starts a process in a mount namespace. The directories that something lies over are made where they
// are missing: containerd and its shims keep sockets in /run/containerd whatever the configuration says. It is killed
// if the test's process dies.
func StartDaemon(spec DaemonSpec) (*Daemon, error) {
	if err := spec.makeTargets(); err != nil {
		return nil, err
	}
	d := &Daemon{cmd: spec.Cmd, done: make(chan struct{})}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		defer close(d.done)
		// By Pdeathsig the daemon ends with its thread, which therefore waits for it.
		_ = OnThread(func() error {
			err := spec.enter()
			if err == nil {
				err = d.cmd.Start()
			}
			started <- err
			if err == nil {
				err = d.cmd.Wait()
			}
			return err // however the daemon ended: that it did is what counts
		})
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return d, nil
}

// enter gives the thread the namespaces of the daemon.
func (s *DaemonSpec) enter() error {
	if s.NetNS != nil {
		if err := unix.Setns(int(s.NetNS.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
	}
	if s.Mounts != nil {
		return s.Mounts.enter()
	}
	return s.unshare()
}

// makeTargets makes the directories that something is to lie over.
func (s *DaemonSpec) makeTargets() error {
	for at := range s.Over {
		if _, err := os.Stat(at); err == nil {
			continue
		}
		if err := os.MkdirAll(at, 0o711); err != nil {
			return err
		}
	}
	return nil
}

// unshare gives the thread a new mount namespace.
func (s *DaemonSpec) unshare() error {
	err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for at, from := range s.Over {
		err = errors.Join(err, unix.Mount(from, at, "", unix.MS_BIND, ""))
	}
	if s.Shared {
		err = errors.Join(err, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	}
	return err
}

// PID is the number of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Ended reports whether the process is over.
func (d *Daemon) Ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process, if it runs.
func (d *Daemon) Signal(signal syscall.Signal) error {
	if err := d.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop sends a signal and waits, after a while with SIGKILL.
func (d *Daemon) Stop(with syscall.Signal) error {
	for _, signal := range []syscall.Signal{with, syscall.SIGKILL} {
		if d.Ended() {
			return nil
		}
		if err := d.Signal(signal); err != nil {
			return err
		}
		select {
		case <-d.done:
			return nil
		case <-time.After(30 * time.Second):
		}
	}
	return errors.New("it does not end")
}
