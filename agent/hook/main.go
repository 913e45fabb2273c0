// Command sallyport-hook is the command "sallyport hook" as a program of its own, for OCI runtimes to call: it holds up
// the start of every container, and has a third of the code to start.
//
// This file wires the command line and owns the exit code. Nothing that it imports may need the kernel, a runtime or the
// API of a cluster: tests/arch holds that.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/cmd"
)

func main() { os.Exit(run()) }

// run is main with an exit code, so that what is deferred runs. A second signal ends the program at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cmd.Program{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}.ExecuteHook(ctx, os.Args[1:])
}
