package cmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/logging"
)

const runHelp = `Run the agent in the foreground until it gets SIGINT or SIGTERM.

It loads the kernel programs, or adopts those that an earlier agent pinned, reads the policies and
follows the container runtime. When it ends, or is killed, what is pinned goes on enforcing: a restart
or an upgrade leaves no gap. To take everything out of the kernel, use --cleanup.

Every setting is a key of the configuration file; the flags below set the few that differ between two
agents on one machine. Each key can also be set by the environment: SALLYPORT_LOG_LEVEL=debug.`

func (p Program) run() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long:  runHelp,
		Example: `  sallyport run
  sallyport run --config ./config.yaml --policies ./policies --log-level debug
  sallyport run --steps cgroup,report     use only these steps of the enforcement ladder
  sallyport run --cleanup                 remove what an earlier agent left in the kernel, and end`,
		Args: noArgs,
	}
	cleanup := c.Flags().Bool("cleanup", false, "remove all pinned programs, links and maps, and end: nothing is enforced any more")
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return errNotRoot
		}
		log, err := logging.New(cfg.Log, p.Stderr)
		if err != nil {
			return err
		}
		if *cleanup {
			pins, err := p.Cleanup(cfg, log)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.Stdout, "removed %s; nothing is enforced any more\n", count(pins, "pin"))
			return nil
		}
		return p.Run(c.Context(), cfg, log)
	}
	return c
}
