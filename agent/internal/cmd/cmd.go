// Package cmd is the command line: what can be asked, how it is answered on a terminal and in a
// pipe, and the exit codes.
//
// It imports config, logging, api, alert and policy, and neither daemon nor demo, probes nor
// runtime: the composition root gives it the functions that do the work.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/agent/internal/config"
)

// The exit codes.
const (
	exitOK           = 0
	exitError        = 1 // something went wrong, or a check found something
	exitUsage        = 2 // the command line or the configuration is wrong
	exitNotPermitted = 3 // only root may
	exitNotRunning   = 4 // there is no agent to ask
	exitBusy         = 5 // another agent is in the way
)

// Program is the sallyport program: its streams, and the parts that do the work.
type Program struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Run     func(context.Context, config.Config, logrus.FieldLogger) error // the agent, until ctx is done
	Cleanup func(config.Config, logrus.FieldLogger) (pins int, err error)  // removes what an agent left in the kernel
	Webhook func(context.Context, config.Config, logrus.FieldLogger) error // what a cluster's API asks, until ctx is done
	Demo    func(context.Context, []config.Step, io.Writer) error
}

// Execute runs the command that args (without the program's name) ask for and returns the exit
// code. It reports errors itself, on Stderr.
func (p Program) Execute(ctx context.Context, args []string) int {
	return p.execute(ctx, p.root(), args)
}

// ExecuteHook is Execute of the command hook alone: "createRuntime" is the first of args. It uses no function of Program.
func (p Program) ExecuteHook(ctx context.Context, args []string) int {
	root := p.hook()
	root.Use = "sallyport-hook"
	return p.execute(ctx, asRoot(root), args)
}

func (p Program) execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if _, told := errors.AsType[findings](err); told { // as the command's answer
		return exitError
	}
	code, hint := classify(ran, err)
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message() // without gRPC's own words
	}
	if hint != "" {
		text += "; " + hint
	}
	for line := range strings.Lines(text) {
		fmt.Fprintln(p.Stderr, "sallyport:", visible(strings.TrimSuffix(line, "\n")))
	}
	return code
}

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// findings is how many errors a check found and told.
type findings int

func (f findings) Error() string { return fmt.Sprintf("found %d errors", int(f)) }

// errNotRoot is returned by commands that only root can run.
var errNotRoot = errors.New("this needs root")

// classify returns the exit code of a command's error, and what to do about it.
func classify(ran *cobra.Command, err error) (code int, hint string) {
	var usage usageError
	var setting *config.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage, "see " + ran.CommandPath() + " --help"
	case errors.As(err, &setting):
		return exitUsage, ""
	case errors.Is(err, errNotRoot), errors.Is(err, api.ErrNotPermitted):
		return exitNotPermitted, "run it as root"
	case errors.Is(err, api.ErrNotRunning):
		return exitNotRunning, "start one with sallyport run, or name its socket with --socket"
	case errors.Is(err, api.ErrBusy):
		return exitBusy, "end it, or give this one a --socket and a --pin-dir of its own"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return exitNotPermitted, "run it as root"
	}
	return exitError, ""
}

const rootHelp = `Sallyport decides in the kernel, for each process, what may leave and enter a container.

A policy says which processes of a pod it is about (the image's own program, or a shell that somebody
exec'd into it) and whom they may talk to. The kernel stops the rest, and the agent tells who tried.

Try it:             sallyport demo
Check policies:     sallyport policy check /etc/sallyport/policies
Ask what they do:   sallyport policy explain --origin Exec --binary /bin/sh --to 192.0.2.1:443
Start the agent:    sallyport run
Ask the agent:      sallyport status
                    sallyport observe -f --verdict Deny

Exit codes: 0 it went well, 1 it did not, or a check found something, 2 the command line or the
configuration is wrong, 3 only root may, 4 no agent is running, 5 another agent is in the way.`

func (p Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "Decide in the kernel, for each process, what may leave and enter a container",
		Long:  rootHelp,
		Args:  cobra.ArbitraryArgs, // group complains
		RunE:  group,
	}
	root.AddCommand(p.run(), p.status(), p.observe(), p.policy(), p.demo(), p.hook(), p.webhook(), p.version())
	return asRoot(root)
}

// asRoot gives a command what the topmost one of a program has.
func asRoot(c *cobra.Command) *cobra.Command {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.CompletionOptions.HiddenDefaultCmd = true
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.PersistentFlags().String("config", "", "configuration file (default "+config.DefaultFile+" if it is there)")
	return c
}

// group is what a command does that only holds others.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	c.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("there is no command %q", c.CommandPath()+" "+args[0])
	if meant := c.SuggestionsFor(args[0]); len(meant) > 0 {
		text += ", did you mean " + strings.Join(meant, " or ") + "?"
	}
	return usageError{errors.New(text)}
}

// noArgs refuses arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, and got %q", c.CommandPath(), args[0])}
	}
	return nil
}

// load reads the configuration that a command's flags ask for.
func load(c *cobra.Command) (config.Config, error) {
	file, err := c.Flags().GetString("config")
	if err != nil {
		return config.Config{}, fmt.Errorf("reading the flags: %w", err)
	}
	return config.Load(config.Options{File: file, Flags: c.Flags()})
}

// dial connects to the agent that a command's flags and configuration name.
func dial(c *cobra.Command) (*api.Client, error) {
	cfg, err := load(c)
	if err != nil {
		return nil, err
	}
	return api.Dial(c.Context(), cfg.API.Socket)
}

// outputFlag is how an answer is written.
type outputFlag string

// The outputs.
const (
	outputAuto    outputFlag = "auto" // columns on a terminal, else JSON
	outputColumns outputFlag = "columns"
	outputJSON    outputFlag = "json"
)

// addOutput adds -o to a command.
func addOutput(c *cobra.Command) *outputFlag {
	o := outputAuto
	c.Flags().VarP(&o, "output", "o", "columns, json, or auto: columns on a terminal, else JSON")
	return &o
}

func (o *outputFlag) String() string { return string(*o) }
func (o *outputFlag) Type() string   { return "form" }

// Set takes one of the words.
func (o *outputFlag) Set(s string) error {
	switch word := outputFlag(s); word {
	case outputAuto, outputColumns, outputJSON:
		*o = word
		return nil
	}
	return errors.New("must be auto, columns or json")
}

// json says whether JSON is to be written to out.
func (o *outputFlag) json(out io.Writer) bool {
	return *o == outputJSON || *o == outputAuto && !isTerminal(out)
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// visible returns a line as it is if it shows as it is, and else escaped: what is in it may come
// from a workload and must not move the terminal's cursor.
func visible(line string) string {
	escaped := alert.Escape(line)
	if strings.ReplaceAll(escaped, `\\`, `\`) == line {
		return line
	}
	return escaped
}
