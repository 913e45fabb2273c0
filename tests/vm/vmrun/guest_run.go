package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputGrace is how long output is awaited after the program ended: a process it left behind may hold the pipes.
const outputGrace = 2 * time.Second

// runProgram runs the program to its end and returns its exit code, 128 + n if signal n killed it.
func (g *guest) runProgram(spec guestSpec) int {
	if len(spec.Args) == 0 {
		return g.cannotRun(errors.New("no program in the instructions"))
	}
	out, outDone, err := g.pipe(frameStdout)
	if err != nil {
		return g.cannotRun(err)
	}
	errs, errsDone, err := g.pipe(frameStderr)
	if err != nil {
		return g.cannotRun(err)
	}
	cmd := exec.Command(spec.Args[0], spec.Args[1:]...)
	cmd.Env, cmd.Dir = spec.Env, guestDir
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return g.cannotRun(err)
	}
	// The program has its own copies; ours would keep the pipes from ending.
	if err := errors.Join(out.Close(), errs.Close()); err != nil {
		g.note("closing the pipes: %v", err)
	}
	code := g.reap(cmd.Process.Pid)
	grace := time.After(outputGrace)
	for _, done := range []<-chan struct{}{outDone, errsDone} {
		select {
		case <-done:
		case <-grace:
			g.note("a process that the program left behind holds its output open")
			return code
		}
	}
	return code
}

func (g *guest) cannotRun(err error) int {
	message := fmt.Sprintf("vmrun: starting the program in the guest: %v\n", err)
	if err := g.wire.send(frameStderr, []byte(message)); err != nil {
		fmt.Println("vmrun:", err)
	}
	return exitGuest
}

// pipe returns a file to write to and a channel that is closed when all of it has been sent as frames of a kind.
func (g *guest) pipe(kind byte) (*os.File, <-chan struct{}, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the last writer, or with the machine
		defer close(done)
		if _, err := io.Copy(stream{g.wire, kind}, r); err != nil {
			g.note("passing output on: %v", err)
		}
	}()
	return w, done, nil
}

// reap waits for every child, as PID 1 must for orphans (their pids stay taken otherwise), until the program ends.
func (g *guest) reap(program int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return g.cannotRun(fmt.Errorf("waiting for it: %w", err))
		case pid != program:
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}

// kernelWatch passes the kernel's log on while the program runs, so that lines before a crash arrive and none is
// overwritten in the kernel's ring.
type kernelWatch struct {
	g       *guest
	fd      int
	ending  chan struct{}
	stopped chan struct{}
}

const kernelLogInterval = 100 * time.Millisecond

func (g *guest) watchKernelLog() *kernelWatch {
	w := &kernelWatch{g: g, ending: make(chan struct{}), stopped: make(chan struct{})}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		w.fault("the guest's kernel log cannot be read: " + err.Error()) // closed: an unseen fault is no pass
		close(w.stopped)
		return w
	}
	w.fd = fd
	go w.loop()
	return w
}

func (w *kernelWatch) loop() {
	defer close(w.stopped)
	tick := time.NewTicker(kernelLogInterval)
	defer tick.Stop()
	for {
		w.drain()
		select {
		case <-tick.C:
		case <-w.ending:
			w.drain()
			return
		}
	}
}

// stop returns when everything the kernel has said so far is on its way.
func (w *kernelWatch) stop() {
	close(w.ending)
	<-w.stopped
}

// drain reads records, one a read, until there is none.
func (w *kernelWatch) drain() {
	record := make([]byte, 8192) // CONSOLE_EXT_LOG_MAX, the longest that the kernel makes
	for {
		n, err := unix.Read(w.fd, record)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPIPE):
			w.g.note("the kernel's log overwrote records before they were read")
		case err != nil:
			return // EAGAIN: that was all
		default:
			if text, ok := parseKmsg(string(record[:n])); ok {
				w.send(frameKernel, text)
			}
		}
	}
}

func (w *kernelWatch) fault(text string) { w.send(frameFault, text) }

func (w *kernelWatch) send(kind byte, text string) {
	if err := w.g.wire.send(kind, []byte(text)); err != nil {
		fmt.Println("vmrun:", err)
	}
}

// reportTaint sends the faults that the kernel remembers having had, also those whose log lines were lost.
func (g *guest) reportTaint() {
	var faults []string
	data, err := os.ReadFile("/proc/sys/kernel/tainted")
	tainted, parseErr := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err := errors.Join(err, parseErr); err != nil {
		faults = []string{"unknown: " + err.Error()} // closed: an unseen fault is no pass
	} else {
		faults = taintFaults(tainted)
	}
	for _, f := range faults {
		if err := g.wire.send(frameFault, []byte("the kernel is tainted: "+f)); err != nil {
			fmt.Println("vmrun:", err)
		}
	}
}
