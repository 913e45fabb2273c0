package cmd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// liveExplanation is the answer about a running process.
type liveExplanation struct {
	Process  liveProcess `json:"process"`
	Revision uint64      `json:"revision,string"` // of the tables in force
	Names    []string    `json:"names"`           // of the peer, by DNS
	match.Explanation
}

// liveProcess is a running process, with the names that events have for the same.
type liveProcess struct {
	PID            uint32   `json:"pid"`
	Workload       string   `json:"workload"`
	Namespace      string   `json:"namespace,omitzero"`
	Container      string   `json:"container,omitzero"`
	ContainerID    string   `json:"containerID,omitzero"`
	ContainerType  string   `json:"containerType,omitzero"`
	Labels         []string `json:"labels,omitzero"` // key=value
	ServiceAccount string   `json:"serviceAccount,omitzero"`
	Unit           string   `json:"unit,omitzero"`
	Cgroup         string   `json:"cgroup,omitzero"`
	Origin         string   `json:"origin"`
	Session        string   `json:"session,omitzero"`
	Binary         string   `json:"binary"`
	Script         string   `json:"script,omitzero"`
	Truncated      bool     `json:"truncated,omitzero"`
	Scriptless     bool     `json:"scriptless,omitzero"`
	Inferred       bool     `json:"inferred,omitzero"`
	User           []uint32 `json:"user"` // real, saved, effective
	Group          []uint32 `json:"group"`
	Groups         []uint32 `json:"groups,omitzero"`
}

// explainLive asks the agent about a running process.
func (p Program) explainLive(c *cobra.Command, pid uint32, q policy.Question, output *outputFlag) error {
	if err := onlyCall(c.Flags()); err != nil {
		return usageError{err}
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // everything was read
	answer, err := client.Explain(c.Context(), api.ExplainRequest(pid, q))
	if err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	explanation := api.Explanation(answer)
	if output.json(p.Stdout) {
		return p.writeLive(answer, explanation)
	}
	fmt.Fprintln(p.Stdout, visible(whoLives(answer)))
	if len(answer.GetNames()) > 0 {
		fmt.Fprintln(p.Stdout, visible("DNS has told its container for the peer: "+strings.Join(namesOf(answer), ", ")))
	}
	fmt.Fprintln(p.Stdout)
	return p.writeExplanation(explanation, q.Call.Canonical().Direction)
}

// onlyCall refuses flags that say of a process what the kernel knows, or name other policies than those in force.
func onlyCall(flags *pflag.FlagSet) (err error) {
	var call, all explainFlags
	about, ours := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	call.call.add(about)
	all.add(ours)
	flags.Visit(func(f *pflag.Flag) {
		if err == nil && f.Name != "pid" && ours.Lookup(f.Name) != nil && about.Lookup(f.Name) == nil {
			err = fmt.Errorf("--%s is known of a running process: leave it out with --pid", f.Name)
		}
	})
	return err
}

// writeLive writes the answer as JSON.
func (p Program) writeLive(answer *apiv1.ExplainResponse, e match.Explanation) error {
	if err := json.NewEncoder(p.Stdout).Encode(liveExplanation{processOf(answer.GetProcess()), answer.GetRevision(), namesOf(answer), e}); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func processOf(p *apiv1.LiveProcess) liveProcess {
	out := liveProcess{
		PID: p.GetPid(), Workload: p.GetWorkload(), Namespace: p.GetNamespace(), Container: p.GetContainer(), ContainerID: p.GetContainerId(),
		ContainerType: p.GetContainerType(), Labels: p.GetLabels(), ServiceAccount: p.GetServiceAccount(), Unit: p.GetUnit(), Cgroup: p.GetCgroup(),
		Origin: p.GetOrigin(), Binary: string(p.GetExe()), Script: string(p.GetScript()),
		Truncated: p.GetTruncated(), Scriptless: p.GetScriptless(), Inferred: p.GetInferred(), User: p.GetUser(), Group: p.GetGroup(), Groups: p.GetGroups(),
	}
	if session := p.GetSession(); session != 0 {
		out.Session = strconv.FormatUint(session, 16)
	}
	return out
}

func namesOf(answer *apiv1.ExplainResponse) []string {
	out := []string{}
	for _, name := range answer.GetNames() {
		out = append(out, string(name))
	}
	return out
}

// whoLives says in a line who is asked about.
func whoLives(answer *apiv1.ExplainResponse) string {
	p := answer.GetProcess()
	parts := []string{fmt.Sprintf("process %d:", p.GetPid()), p.GetOrigin(), string(p.GetExe())}
	if script := string(p.GetScript()); script != "" {
		parts = append(parts, script)
	}
	parts = append(parts, fmt.Sprintf("(user %s, group %s)", ids(p.GetUser()), ids(p.GetGroup())), "in", p.GetWorkload())
	if !p.GetHost() {
		parts = append(parts, "(container "+p.GetContainer()+")")
	}
	for _, known := range []struct {
		is   bool
		text string
	}{
		{p.GetInferred(), "older than the agent"},
		{p.GetTruncated(), "its path is not known whole"},
		{p.GetScriptless(), "which script it runs is not known"},
	} {
		if known.is {
			parts[len(parts)-1] += ","
			parts = append(parts, known.text)
		}
	}
	return strings.Join(parts, " ") + "; revision " + strconv.FormatUint(answer.GetRevision(), 10)
}

// ids are the three of a process as people write them; "?" is one that its container has no number for.
func ids(list []uint32) string {
	var texts []string
	for _, id := range list {
		text := "?"
		if id != policy.NoID {
			text = strconv.FormatUint(uint64(id), 10)
		}
		texts = append(texts, text)
	}
	if len(slices.Compact(slices.Clone(texts))) == 1 {
		return texts[0]
	}
	return strings.Join(texts, "/")
}
