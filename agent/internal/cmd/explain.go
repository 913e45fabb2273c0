package cmd

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
	"github.com/sallyport/sallyport/policy/diff"
	"github.com/sallyport/sallyport/policy/match"
)

const explainHelp = `Say what policies do with one call of one process, and why: the verdict, the rule that decides, and for
every other rule what in it did not match.

With --pid the agent of this node is asked about a running process: by its label in the kernel, by the policies
that are in force, by what the cluster's API and DNS have told so far. PID is the node's, as ps there shows it,
not the container's. Nothing is decided, and the process does not notice.

Without --pid only the policies are asked, no agent and no cluster, and the other flags say who calls. What
policies may ask of the cluster stands in the file of --cluster: a test file of policy test, with or without cases.

--to ADDRESS:PORT/PROTOCOL is a call to a peer; --from ADDRESS:PORT/PROTOCOL is a call by a peer, to PORT
of the workload; --listen PORT/PROTOCOL is a bind, listen or accept there. PROTOCOL is TCP (the default), UDP, SCTP,
ICMP, ICMPv6 or a number; ICMP has no port, but --icmp-type. An IPv6 address with a port stands in brackets.

Where rules ask for what is said on a connection, give that too: --query NAME (rules.dns), --server-name NAME
(serverNames), or --request "METHOD /path", --host, --header "Name: value" (rules.http). Without it the answer is
about the connection alone.`

func (p Program) explain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain {--to | --from | --listen} ADDRESS:PORT/PROTOCOL [--pid PID]",
		Short: "Say what policies do with one call, and why",
		Long:  explainHelp,
		Example: `  sallyport policy explain --pid 4711 --to 10.0.0.5:443
  sallyport policy explain --policies ./policies --namespace shop --pod-labels app=checkout \
      --origin Exec --binary /bin/sh --to 10.0.0.5:443
  sallyport policy explain --policies shop.yaml --namespace shop --from '[2001:db8::7]:8080/TCP'
  sallyport policy explain --policies shop.yaml --namespace shop --to 192.0.2.1/ICMP --icmp-type EchoRequest -o json
  sallyport policy explain --policies shop.yaml --namespace shop --to 203.0.113.9:443 --name api.payments.example
  sallyport policy explain --policies shop.yaml --namespace shop --to 10.96.0.10:53/UDP --query www.example.com
  sallyport policy explain --policies shop.yaml --namespace shop --to 203.0.113.9:80 --request 'POST /v1/charge'
  sallyport policy explain --policies node.yaml --cgroup /system.slice/nginx.service --binary /usr/sbin/nginx --to 192.0.2.1:443`,
		Args: noArgs,
	}
	var f explainFlags
	f.add(c.Flags())
	config.AddFlags(c.Flags(), "socket")
	output := addOutput(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := f.question()
		if err != nil {
			return usageError{err}
		}
		if c.Flags().Changed("pid") {
			return p.explainLive(c, f.pid, q, output)
		}
		return p.explainFiles(c, &f, q, output)
	}
	return c
}

// explainFiles asks policies alone.
func (p Program) explainFiles(c *cobra.Command, f *explainFlags, q policy.Question, output *outputFlag) error {
	var in policy.Input
	process, err := f.who.process()
	if err != nil {
		return usageError{err}
	}
	if in.Node, in.World, err = p.known(f.addresses, f.cluster); err != nil {
		return err
	}
	if in.Policies, err = p.goodPolicies(c, f.policies); err != nil {
		return err
	}
	if f.cluster == "" && diff.NeedsCluster(in.Policies) {
		fmt.Fprintln(p.Stderr, "sallyport: policies select peers by what they are in the cluster, which is not known here: such peers match nothing; give --cluster")
	}
	if q.Request == nil && q.ServerName == nil && q.Query == nil && q.Call.Protocol == unix.IPPROTO_TCP && asksForRequests(in.Policies, &process.Workload) {
		fmt.Fprintln(p.Stderr, "sallyport: rules of the workload ask for requests (rules.http): an answer without --request is about the connection alone")
	}
	answer := match.Ask(in, process, q)
	if !output.json(p.Stdout) {
		return p.writeExplanation(answer, q.Call.Canonical().Direction)
	}
	if err := json.NewEncoder(p.Stdout).Encode(answer); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// known is what flags say of the node and the cluster.
func (p Program) known(addresses []string, cluster string) (node policy.Node, world policy.World, err error) {
	if cluster != "" {
		data, err := p.readFile(cluster)
		if err != nil {
			return node, world, err
		}
		if node, world, err = cases.Facts(nameOf(cluster), data); err != nil {
			return node, world, err
		}
	}
	more, err := nodeOf(addresses)
	if err != nil {
		return node, world, usageError{err}
	}
	node.Addresses = append(node.Addresses, more.Addresses...)
	return node, world, nil
}

// goodPolicies reads policies that must all be right.
func (p Program) goodPolicies(c *cobra.Command, paths []string) ([]*policy.Policy, error) {
	if len(paths) == 0 {
		var err error
		if paths, err = defaultPolicies(c); err != nil {
			return nil, err
		}
	}
	return p.rightPolicies(paths)
}

// rightPolicies reads files and folders with policies that must all be right.
func (p Program) rightPolicies(paths []string) ([]*policy.Policy, error) {
	files, err := p.readPolicies(paths)
	if err != nil {
		return nil, err
	}
	var out []*policy.Policy
	for _, f := range files {
		if f.Err != nil {
			return nil, f.Err
		}
		out = append(out, f.Policies...)
	}
	return out, nil
}

// asksForRequests says whether a rule about a workload asks for requests.
func asksForRequests(policies []*policy.Policy, w *policy.Workload) bool {
	for _, p := range policies {
		if !p.Selects(w) {
			continue
		}
		for i := range p.Spec.Rules {
			for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
				entries, _, _ := p.Spec.Rules[i].Entries(d)
				for n := range entries {
					if entries[n].HTTP != nil {
						return true
					}
				}
			}
		}
	}
	return false
}
