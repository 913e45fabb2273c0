package cmd

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/api"
)

// versions is the answer of sallyport version.
type versions struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Kernel   string `json:"kernel"`
}

func (p Program) version() *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print what this program was built from, and the kernel it runs on",
		Example: "  sallyport version\n  sallyport version -o json | jq -r .version",
		Args:    noArgs,
	}
	output := addOutput(c)
	c.RunE = func(*cobra.Command, []string) error {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return fmt.Errorf("asking for the kernel's release: %w", err)
		}
		build := api.Build()
		v := versions{
			Version: build.GetVersion(), Commit: build.GetCommit(), Go: build.GetGo(), Platform: build.GetPlatform(),
			Kernel: unix.ByteSliceToString(name.Release[:]),
		}
		if output.json(p.Stdout) {
			return json.NewEncoder(p.Stdout).Encode(v)
		}
		t := newTable(p.Stdout)
		t.row("version", v.Version)
		t.row("commit", v.Commit)
		t.row("go", v.Go)
		t.row("platform", v.Platform)
		t.row("kernel", v.Kernel)
		return t.flush()
	}
	return c
}
