package cmd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/learn"
)

const learnHelp = `Write policies that allow what was seen and nothing else, for people to review.

FILE holds events as the agent writes them, one JSON object a line: alerts.jsonl, or what
sallyport observe -o json prints; - or nothing is standard input. What passed is among the traffic that
observe shows; alerts.jsonl holds alerts only.

There is a policy for each workload (pods with the same labels, a unit of the node) and in it a rule for each
container, origin and program, with the addresses and ports that it used: peers that were used with the same ports stand
together, ports that follow one another are a range, and where an event tells by which name a peer was
looked up, the name stands there instead of the address. A last rule makes everything else default-deny.
A comment says how often and when each entry was seen.

DNS queries and requests over HTTP are seen where rules ask for them (rules.dns, rules.http; one that allows all is enough):
then only what was asked for may be asked for (of a port with more than 16 requests methods and hosts only).

Never learnt from, unless asked: exec sessions, so that what somebody tried in a shell is not allowed for
ever; what was denied; and what an Audit policy would have denied. What is left out is counted on standard
error. Loopback and listening need no rule.

--widen 24,64 writes 10.0.0.0/24 where two or more addresses in it were used with the same ports, and
likewise for prefixes of 64 bits of IPv6: shorter, and wider than what was seen.

The policies only audit unless --mode Enforce is given: let them run, look at what they would have denied,
then enforce them.

Units of the node are told of where a HostProcessPolicy selects them; one that allows all is enough to see what they do.
They are selected by name and by the path of their cgroup, since a user's service manager names units as the user likes;
of sessions and of what systemd-run starts the number is left open.

` + podLabelsHelp + `
Without labels a policy selects the containers of that name in every pod of the namespace, and says so.`

// learnFlags is what was asked.
type learnFlags struct {
	o      learn.Options
	mode   string
	widen  string
	labels *[]string
}

func (p Program) learn() *cobra.Command {
	c := &cobra.Command{
		Use:   "learn [FILE]",
		Short: "Write policies that allow what was seen",
		Long:  learnHelp,
		Example: `  sallyport observe --namespace shop -o json | sallyport policy learn > learnt.yaml
  sallyport policy learn --widen 24,64 --pod-labels 'shop/checkout-*:app=checkout' flows.jsonl
  sallyport policy learn --include-audited --mode Enforce flows.jsonl`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s takes one file, and got %d", c.CommandPath(), len(args))}
			}
			return nil
		},
	}
	var f learnFlags
	flags := c.Flags()
	flags.StringVar(&f.mode, "mode", string(policy.ModeAudit), "mode of the policies: Audit or Enforce")
	flags.BoolVar(&f.o.IncludeExec, "include-exec", false, "learn from exec sessions, too")
	flags.BoolVar(&f.o.IncludeDenied, "include-denied", false, "learn from what was denied, too")
	flags.BoolVar(&f.o.IncludeAudited, "include-audited", false, "learn from what would have been denied, too")
	flags.BoolVar(&f.o.Open, "open", false, "leave out the rule that denies what was not seen")
	flags.BoolVar(&f.o.Addresses, "addresses", false, "write addresses also where a name is known")
	flags.StringVar(&f.widen, "widen", "", "bits of the IPv4 and IPv6 prefixes that addresses become: 24,64; default: addresses stay")
	f.labels = addPodLabels(flags)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := f.options(); err != nil {
			return usageError{err}
		}
		path := "-"
		if len(args) > 0 {
			path = args[0]
		}
		return p.runLearn(path, f)
	}
	return c
}

// options reads the flags that are words.
func (f *learnFlags) options() error {
	switch f.o.Mode = policy.Mode(f.mode); f.o.Mode {
	case policy.ModeAudit, policy.ModeEnforce:
	default:
		return fmt.Errorf("reading --mode: %q is neither Audit nor Enforce", f.mode)
	}
	if f.widen == "" {
		return nil
	}
	four, six, ok := strings.Cut(f.widen, ",")
	v4, err4 := strconv.ParseUint(four, 10, 8)
	v6, err6 := strconv.ParseUint(six, 10, 8)
	if !ok || errors.Join(err4, err6) != nil || v4 == 0 || v6 == 0 || int(v4) > netip.IPv4Unspecified().BitLen() || int(v6) > netip.IPv6Unspecified().BitLen() {
		return fmt.Errorf("reading --widen: %q is no pair such as 24,64", f.widen)
	}
	f.o.WidenV4, f.o.WidenV6 = int(v4), int(v6)
	return nil
}

func (p Program) runLearn(path string, f learnFlags) error {
	log, err := p.readFlows(path, *f.labels)
	if err != nil {
		return err
	}
	r, err := learn.Learn(log, f.o)
	if err != nil {
		return err
	}
	for _, line := range r.Unseen(log) {
		fmt.Fprintln(p.Stderr, "sallyport: left out", line)
	}
	if log.Lost > 0 {
		fmt.Fprintf(p.Stderr, "sallyport: the agent lost %d events: what they were is not learnt\n", log.Lost)
	}
	if len(r.Policies) == 0 {
		return errors.New("learning: nothing was seen that can be learnt from")
	}
	// What is written must pass `policy check`. It does not where more was seen than fits the tables.
	result := check([]policy.File{{Name: "learnt.yaml", Policies: r.Policies}}, compile.Enforced{})
	if len(result.Errors) > 0 {
		return fmt.Errorf("learning: %s: use --widen, or learn from less", result.Errors[0].text)
	}
	if _, err := p.Stdout.Write(r.YAML); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	if len(log.Flows) > 0 && isTerminal(os.Stderr) {
		fmt.Fprintf(p.Stderr, "sallyport: %d events became %s\n", r.Learnt, count(len(r.Policies), "policy"))
	}
	return nil
}
