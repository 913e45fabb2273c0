package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/diff"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/policy/match"
)

const diffHelp = `Say what new policies would change for what was seen: for each distinct flow that would fare otherwise,
what was decided, what will be, and by which rule. It asks nothing but the files.

--policies are the new files and folders, all of them: what they do not say is not in force. What was decided
before is what the events tell, or what the policies of --from decide about the same flows. Flows are calls, and what
was said inside of some: DNS queries, requests over HTTP, names that TLS clients asked for.

FILE of --events holds events as the agent writes them, one JSON object a line: alerts.jsonl, or what
sallyport observe -o json prints; - is standard input.

` + podLabelsHelp + ` How many flows
that leaves undecided is told on standard error. Events do not tell which pod or service an address belongs
to either: toEndpoints, toServices and the entities of the cluster match nothing here, which is told as well, unless
--cluster names a test file (see policy test) that says it.

Exit codes: 0 it went well, 1 it did not, or with --exit-code something changes, 2 the command line is wrong.`

// diffFlags is what was asked.
type diffFlags struct {
	policies, from []string
	events         string
	all, exitCode  bool
	addresses      []string
	cluster        string
	labels         *[]string
}

// change is one flow of the answer.
type change struct {
	Workload string         `json:"workload"` // namespace/owner/container
	Origin   policy.Origin  `json:"origin"`
	Binary   string         `json:"binary,omitzero"`
	Script   string         `json:"script,omitzero"`
	Call     string         `json:"call"` // ADDRESS:PORT/PROTOCOL
	PeerName string         `json:"peerName,omitzero"`
	Said     string         `json:"said,omitzero"` // query NAME, request METHOD HOST/PATH, server name NAME
	Dir      string         `json:"direction"`
	Count    uint64         `json:"count"`
	First    time.Time      `json:"first,omitzero"`
	Last     time.Time      `json:"last,omitzero"`
	Changes  bool           `json:"changes"`
	Was      match.Decision `json:"was"`
	Will     match.Decision `json:"will"`
	Why      string         `json:"why,omitzero"`
}

// diffResult is the answer of sallyport policy diff.
type diffResult struct {
	Flows   int      `json:"flows"`
	Changed int      `json:"changed"`
	Closed  int      `json:"closed"` // passed, and will be stopped
	Opened  int      `json:"opened"` // was stopped, and will pass
	Changes []change `json:"changes"`
}

func (p Program) diff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff --policies PATH [--from PATH] --events FILE",
		Short: "Say what new policies would change for what was seen",
		Long:  diffHelp,
		Example: `  sallyport observe -o json | sallyport policy diff --policies ./new --events -
  sallyport policy diff --policies ./new --from ./policies --events flows.jsonl --exit-code`,
		Args: noArgs,
	}
	var f diffFlags
	flags := c.Flags()
	flags.StringSliceVar(&f.policies, "policies", nil, "the new files and folders")
	flags.StringSliceVar(&f.from, "from", nil, "the old files and folders; default: what the events tell")
	flags.StringVar(&f.events, "events", "", "file with what was seen, - for standard input")
	flags.BoolVar(&f.all, "all", false, "show the flows that stay as they are, too")
	flags.BoolVar(&f.exitCode, "exit-code", false, "end with 1 when something changes")
	flags.StringSliceVar(&f.addresses, "node-address", nil, "addresses that the entity host stands for")
	flags.StringVar(&f.cluster, "cluster", "", clusterUsage)
	f.labels = addPodLabels(flags)
	output := addOutput(c)
	c.RunE = func(*cobra.Command, []string) error {
		if len(f.policies) == 0 || f.events == "" {
			return usageError{errors.New("give --policies and --events")}
		}
		result, err := p.runDiff(f)
		if err != nil {
			return err
		}
		if err := p.writeDiff(result, output.json(p.Stdout)); err != nil {
			return err
		}
		if f.exitCode && result.Changed > 0 {
			return findings(result.Changed)
		}
		return nil
	}
	return c
}

func (p Program) runDiff(f diffFlags) (diffResult, error) {
	node, world, err := p.known(f.addresses, f.cluster)
	if err != nil {
		return diffResult{}, err
	}
	to := policy.Input{Node: node, World: world}
	if to.Policies, err = p.rightPolicies(f.policies); err != nil {
		return diffResult{}, err
	}
	var from *policy.Input
	if f.from != nil {
		from = &policy.Input{Node: node, World: world}
		if from.Policies, err = p.rightPolicies(f.from); err != nil {
			return diffResult{}, err
		}
	}
	log, err := p.readFlows(f.events, *f.labels)
	if err != nil {
		return diffResult{}, err
	}
	if n := diff.Unlabelled(log.Flows, to.Policies); n > 0 {
		fmt.Fprintf(p.Stderr, "sallyport: the labels of the pods of %s are not known: policies that select by labels do not select them; give --pod-labels\n", count(n, "flow"))
	}
	if f.cluster == "" && (diff.NeedsCluster(to.Policies) || from != nil && diff.NeedsCluster(from.Policies)) {
		fmt.Fprintln(p.Stderr, "sallyport: policies select peers by what they are in the cluster, which the events do not tell: such peers match nothing here; give --cluster")
	}
	if diff.NeedsHeaders(log.Flows, to.Policies) || from != nil && diff.NeedsHeaders(log.Flows, from.Policies) {
		fmt.Fprintln(p.Stderr, "sallyport: policies ask for headers of requests, which the events do not tell: such rules match no request here")
	}
	result := diffResult{Flows: len(log.Flows), Changes: []change{}}
	for _, c := range diff.Compare(log.Flows, from, &to) {
		result.add(&c, f.all)
	}
	return result, nil
}

// nodeOf reads the node's addresses.
func nodeOf(addresses []string) (n policy.Node, err error) {
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return n, fmt.Errorf("reading --node-address: %q is no address", text)
		}
		n.Addresses = append(n.Addresses, a)
	}
	return n, nil
}

func (r *diffResult) add(c *diff.Change, all bool) {
	if c.Differs() {
		r.Changed++
	}
	if c.Closes() {
		r.Closed++
	}
	if c.Opens() {
		r.Opened++
	}
	if !c.Differs() && !all {
		return
	}
	r.Changes = append(r.Changes, changeOf(c))
}

func changeOf(c *diff.Change) change {
	f := &c.Flow
	w := &f.Process.Workload
	return change{
		Workload: workloadOf(w), Origin: f.Process.Origin, Binary: f.Process.Exe, Script: f.Process.Script,
		Call: f.Call.String(), PeerName: f.PeerName, Said: f.Said(), Dir: direction(f), Count: f.Count, First: f.First, Last: f.Last,
		Changes: c.Differs(), Was: c.Was, Will: c.Will, Why: c.Why,
	}
}

// workloadOf writes a workload as the agent does: a unit is the path of its cgroup.
func workloadOf(w *policy.Workload) string {
	switch {
	case w.Host != nil:
		return w.Host.Cgroup
	case w.Pod == "" || w.Pod == w.Container:
		return w.Namespace + "/" + w.Container
	}
	return w.Namespace + "/" + w.Pod + "/" + w.Container
}

// direction names what a flow was.
func direction(f *flows.Flow) string {
	if f.Call.Listen {
		return "listen"
	}
	return f.Call.Direction.String()
}

func (p Program) writeDiff(r diffResult, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(p.Stdout).Encode(r); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		return nil
	}
	if len(r.Changes) > 0 {
		t := newTable(p.Stdout)
		t.row("COUNT", "WORKLOAD", "PROCESS", "CALL", "WAS", "WILL BE", "RULE")
		for i := range r.Changes {
			c := &r.Changes[i]
			t.row(strconv.FormatUint(c.Count, 10), c.Workload, process(c), calls(c), verdict(c.Was), verdict(c.Will), ruleOf(c))
		}
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintln(p.Stdout)
	}
	fmt.Fprintf(p.Stdout, "%s, %d changed: %d will be stopped that passed, %d will pass that were stopped\n", count(r.Flows, "flow"), r.Changed, r.Closed, r.Opened)
	return nil
}

func process(c *change) string {
	if c.Script != "" {
		return string(c.Origin) + " " + c.Script
	}
	return strings.TrimSpace(string(c.Origin) + " " + c.Binary)
}

func calls(c *change) string {
	word := map[string]string{"egress": "to ", "ingress": "from "}[c.Dir]
	if word == "" {
		word = c.Dir + " "
	}
	text := word + c.Call
	if c.PeerName != "" {
		text += " (" + c.PeerName + ")"
	}
	if c.Said != "" {
		text += ": " + c.Said
	}
	return text
}

// verdict shows a verdict, and for an audited call what Enforce would do.
func verdict(d match.Decision) string {
	if d.Would != "" {
		return fmt.Sprintf("%s (%s)", d.Verdict, d.Would)
	}
	return string(d.Verdict)
}

// ruleOf names the rule that will decide, or why none does.
func ruleOf(c *change) string {
	if c.Will.Rule == "" {
		return string(c.Will.Reason)
	}
	if c.Will.Reason == policy.ReasonDefault {
		return c.Will.Rule + " (default)"
	}
	return c.Will.Rule
}
