package cmd

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/agent/internal/config"
)

const demoHelp = `Show the main job on this machine, with a real container: its main program reaches what its policy
allows, and a shell that is exec'd into it is stopped by the kernel, by TCP, UDP, ICMP and over IPv6.
You see the calls fail, the events, and the line that syslog got.

It needs root, containerd, runc and rsyslogd, starts its own in a private folder, talks to nothing
outside this machine, and removes all it made. It ends with 0 only if all of that was seen.`

func (p Program) demo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a shell in a real container being stopped",
		Long:  demoHelp,
		Example: `  sallyport demo
  sallyport demo --steps fmod_ret     show one step of the enforcement ladder`,
		Args: noArgs,
	}
	config.AddFlags(c.Flags(), "steps")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return errNotRoot
		}
		return p.Demo(c.Context(), cfg.Enforcement.Steps, p.Stdout)
	}
	return c
}
