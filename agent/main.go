// Command sallyport decides in the kernel, for each process, what may leave and enter a container.
//
// This file wires the command line to the agent and owns the exit code; everything else is in
// internal.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/cmd"
	"github.com/sallyport/sallyport/agent/internal/daemon"
	"github.com/sallyport/sallyport/agent/internal/demo"
	"github.com/sallyport/sallyport/agent/internal/webhook"
)

func main() { os.Exit(run()) }

// run is main with an exit code, so that what is deferred runs. A second signal ends the program at
// once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cmd.Program{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Run: daemon.Run, Cleanup: daemon.Cleanup, Demo: demo.Run, Webhook: webhook.Run,
	}.Execute(ctx, os.Args[1:])
}
