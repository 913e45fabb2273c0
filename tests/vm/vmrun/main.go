// Command vmrun runs one static Linux program, usually a Go test binary, in a QEMU guest under a stock distribution
// kernel, and ends with its output and its exit code:
//
//	CGO_ENABLED=0 go build -o vmrun ./tests/vm/vmrun
//	CGO_ENABLED=0 go test -exec "$PWD/vmrun -kernel $(tests/vm/kernels.sh 6.12)" ./tests/vm/selftest
//
// It owns the whole way there and back: the initramfs (cpio.go, image.go), the kernel modules in it (modules.go), the
// machine (qemu.go), the guest's PID 1 (guest*.go: vmrun is its own /init) and the wire between the two (protocol.go).
// A guest kernel that reports a BUG, WARNING or Oops fails the run whatever the program says (kernellog.go).
//
// It is emulation (TCG) and needs neither root nor /dev/kvm. It imports nothing of this module, so that it can test
// any part of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// Exit codes of vmrun itself, besides those of the program it runs.
const (
	exitFault   = 123 // the guest kernel reported a fault, or died
	exitTimeout = 124 // the time given was over
	exitLaunch  = 125 // vmrun could not start the guest, or lost it
	exitGuest   = 126 // the guest could not start the program

	exitEmulator = -1 // never returned: the emulator, not the guest, is at fault
)

func main() {
	if inGuest() {
		guestMain()
		return
	}
	// QEMU dies with the thread that started it (Pdeathsig): that must be this one.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run boots one guest as args say and returns the exit code of the whole.
func run(ctx context.Context, args []string) int {
	opts, err := parseOptions(args, os.Stderr)
	if err != nil {
		return complain(err)
	}
	kernel, err := openKernel(opts.kernel)
	if err != nil {
		return complain(err)
	}
	for range emulatorTries - 1 {
		if code := boot(ctx, opts, kernel); code != exitEmulator {
			return code
		}
		fmt.Fprintln(os.Stderr, "vmrun: the emulator has lost a change of the kernel's text; once more from the beginning")
	}
	if code := boot(ctx, opts, kernel); code != exitEmulator {
		return code
	}
	return exitFault
}

// emulatorTries is how often a guest is started that the emulator breaks.
const emulatorTries = 3

// boot starts one guest and returns its exit code, or exitEmulator.
func boot(ctx context.Context, opts options, kernel *kernel) int {
	dir, err := os.MkdirTemp("", "vmrun")
	if err != nil {
		return complain(fmt.Errorf("making a directory for the guest's files: %w", err))
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary directory does not change the result
	m, err := newMachine(opts, kernel, dir)
	if err != nil {
		return complain(err)
	}
	return m.run(ctx)
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "vmrun:", err)
	return exitLaunch
}
