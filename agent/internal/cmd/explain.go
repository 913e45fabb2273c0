package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/diff"
	"github.com/sallyport/sallyport/policy/match"
)

const explainHelp = `Say what policies do with one call of one process, and why: the verdict, the rule that decides, and for
every other rule what in it did not match. It asks nothing but the policies: no agent, no cluster.

Where rules ask for what is said on a connection (rules.http), give that too: --request "METHOD /path", --host,
--header "Name: value". Without it the answer is about the connection alone.

--to ADDRESS:PORT/PROTOCOL is a call to a peer; --from ADDRESS:PORT/PROTOCOL is a call by a peer, to PORT
of the workload. PROTOCOL is TCP (the default), UDP, SCTP, ICMP, ICMPv6 or a number; ICMP has no port.
An IPv6 address with a port stands in brackets.`

// explainFlags is what was asked.
type explainFlags struct {
	policies  []string
	workload  policy.Workload
	unit      string
	cgroup    string
	origin    string
	binary    string
	script    string
	user      string
	group     string
	groups    []uint
	to, from  string
	names     []string
	query     string
	request   string
	host      string
	headers   []string
	addresses []string
}

// add defines the flags.
func (f *explainFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.policies, "policies", nil, "files or folders with policies, - for standard input; default: the agent's folder")
	flags.StringVar(&f.workload.Namespace, "namespace", policy.DefaultNamespace, "namespace of the workload")
	flags.StringToStringVar(&f.workload.Labels, "pod-labels", nil, "its labels, as key=value,key=value")
	flags.StringToStringVar(&f.workload.NamespaceLabels, "namespace-labels", nil, "labels of the namespace, as key=value,key=value")
	flags.StringVar(&f.workload.ServiceAccount, "service-account", "", "service account of the pod")
	flags.StringVar(&f.workload.Container, "container", "app", "name of the container")
	flags.StringVar(&f.workload.ContainerType, "container-type", string(policy.ContainerApp), "App, Init, Sidecar or Ephemeral")
	flags.StringVar(&f.unit, "unit", "", "systemd unit of the process, in place of the namespace and what goes with it")
	flags.StringVar(&f.cgroup, "cgroup", "", "its cgroup, from the root of the hierarchy: /system.slice/ssh.service")
	flags.StringVar(&f.origin, "origin", string(policy.OriginMain), "origin of the process: Main, Exec, Probe, Host or Unknown")
	flags.StringVar(&f.binary, "binary", "", "path of its program")
	flags.StringVar(&f.script, "script", "", "path of the script's file, where the program is its interpreter")
	flags.StringVar(&f.user, "user", "0", "its user id inside the container, or REAL/SAVED/EFFECTIVE")
	flags.StringVar(&f.group, "group", "0", "its group id, the same")
	flags.UintSliceVar(&f.groups, "groups", nil, "its supplementary groups")
	flags.StringVar(&f.to, "to", "", "peer that the process calls")
	flags.StringVar(&f.from, "from", "", "peer that calls the process")
	flags.StringSliceVar(&f.names, "name", nil, "names that DNS has told the workload for the peer of --to")
	flags.StringVar(&f.query, "query", "", "name that the process asks the resolver of --to for")
	flags.StringVar(&f.request, "request", "", "request over HTTP that goes there, or comes in: method and path, without the query")
	flags.StringVar(&f.host, "host", "", "host that --request is for")
	flags.StringArrayVar(&f.headers, "header", nil, "header of --request, as Name: value")
	flags.StringSliceVar(&f.addresses, "node-address", nil, "addresses that the entity host stands for")
}

func (p Program) explain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain {--to | --from} ADDRESS:PORT/PROTOCOL",
		Short: "Say what policies do with one call, and why",
		Long:  explainHelp,
		Example: `  sallyport policy explain --policies ./policies --namespace shop --pod-labels app=checkout \
      --origin Exec --binary /bin/sh --to 10.0.0.5:443
  sallyport policy explain --policies shop.yaml --namespace shop --from '[2001:db8::7]:8080/TCP'
  sallyport policy explain --policies shop.yaml --namespace shop --to 192.0.2.1/ICMP -o json
  sallyport policy explain --policies shop.yaml --namespace shop --to 203.0.113.9:443 --name api.payments.example
  sallyport policy explain --policies shop.yaml --namespace shop --to 10.96.0.10:53/UDP --query www.example.com
  sallyport policy explain --policies shop.yaml --namespace shop --to 203.0.113.9:80 --request 'POST /v1/charge'
  sallyport policy explain --policies node.yaml --cgroup /system.slice/nginx.service --binary /usr/sbin/nginx --to 192.0.2.1:443`,
		Args: noArgs,
	}
	var f explainFlags
	f.add(c.Flags())
	output := addOutput(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		in, process, call, err := f.question()
		if err != nil {
			return usageError{err}
		}
		request, err := f.asked(call)
		if err != nil {
			return usageError{err}
		}
		if in.Policies, err = p.goodPolicies(c, f.policies); err != nil {
			return err
		}
		if diff.NeedsCluster(in.Policies) {
			fmt.Fprintln(p.Stderr, "sallyport: policies select peers by what they are in the cluster, which is not known here: such peers match nothing")
		}
		answer := match.Explain(in, process, call)
		switch {
		case f.query != "":
			answer = match.ExplainQuery(in, process, policy.Query{Call: call, Name: policy.NormalName(f.query)})
		case request != nil:
			answer = match.ExplainRequest(in, process, *request)
		case call.Protocol == unix.IPPROTO_TCP && asksForRequests(in.Policies, &process.Workload):
			fmt.Fprintln(p.Stderr, "sallyport: rules of the workload ask for requests (rules.http): an answer without --request is about the connection alone")
		}
		if output.json(p.Stdout) {
			if err := json.NewEncoder(p.Stdout).Encode(answer); err != nil {
				return fmt.Errorf("writing the answer: %w", err)
			}
			return nil
		}
		return p.writeExplanation(answer, in.Policies, &process.Workload, call.Direction)
	}
	return c
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

// question turns the flags into what match is asked.
func (f *explainFlags) question() (in policy.Input, p policy.Process, c policy.Call, err error) {
	origins := policy.Origins()
	if !slices.Contains(origins[:], policy.Origin(f.origin)) {
		return in, p, c, fmt.Errorf("reading --origin: %q is none of Main, Exec, Probe, Host, Unknown", f.origin)
	}
	if f.unit == "" && f.cgroup != "" {
		f.unit = policy.UnitOf(f.cgroup)
	}
	if f.unit != "" || f.cgroup != "" {
		f.workload = policy.Workload{Host: &policy.HostUnit{Unit: f.unit, Cgroup: f.cgroup}}
	}
	p = policy.Process{Workload: f.workload, Origin: policy.Origin(f.origin), Exe: f.binary, Script: f.script}
	if p.User, err = policy.ParseIDs(f.user); err != nil {
		return in, p, c, fmt.Errorf("reading --user: %w", err)
	}
	if p.Group, err = policy.ParseIDs(f.group); err != nil {
		return in, p, c, fmt.Errorf("reading --group: %w", err)
	}
	for _, id := range f.groups {
		p.Groups = append(p.Groups, uint32(min(id, uint(policy.NoID))))
	}
	if in.Node, err = nodeOf(f.addresses); err != nil {
		return in, p, c, err
	}
	switch {
	case (f.to == "") == (f.from == ""):
		return in, p, c, errors.New("give one of --to and --from")
	case f.to != "":
		c, err = policy.ParseCall(f.to)
		c.Direction = policy.Egress
		for _, name := range f.names {
			c.Names = append(c.Names, policy.NormalName(name))
		}
	case f.query != "" || f.names != nil:
		return in, p, c, errors.New("--name and --query are about a peer of --to")
	default:
		c, err = policy.ParseCall(f.from)
		c.Direction = policy.Ingress
	}
	return in, p, c, err
}

// asked is the request of the flags; nil: there is none.
func (f *explainFlags) asked(c policy.Call) (*policy.Request, error) {
	if f.request == "" {
		if f.host != "" || f.headers != nil {
			return nil, errors.New("--host and --header are about a --request")
		}
		return nil, nil //nolint:nilnil // nothing was asked
	}
	method, path, ok := strings.Cut(f.request, " ")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("reading --request: %q is no method and path: want e.g. 'GET /v1/status'", f.request)
	}
	if c.Protocol != unix.IPPROTO_TCP || f.query != "" {
		return nil, errors.New("--request is about a connection over TCP")
	}
	r := &policy.Request{Call: c, Method: method, Path: path, Host: f.host}
	for _, text := range f.headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("reading --header: %q has no colon: want 'Name: value'", text)
		}
		r.Headers = append(r.Headers, policy.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	return r, nil
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

// writeExplanation writes columns: the rules of the call's direction in the policies that select the
// workload, and below them why the other policies do not.
func (p Program) writeExplanation(e match.Explanation, policies []*policy.Policy, w *policy.Workload, d policy.Direction) error {
	selected := map[string]bool{}
	for _, pol := range policies {
		selected[pol.Name()] = pol.Selects(w)
	}
	fmt.Fprintln(p.Stdout, visible(e.Why))
	rules := newSection(p.Stdout, "", "RULE", "PART", "ACTION", "WHERE", "WHY")
	others := newSection(p.Stdout, "POLICY", "WHY NOT")
	anyRule, told := false, map[string]bool{}
	for _, r := range e.Rules {
		name := policyOf(r)
		switch {
		case !selected[name] && !told[name]:
			told[name] = true
			others.row(name, r.Why)
		case selected[name] && r.Direction == d.String():
			anyRule = true
			rules.row(mark(r), r.Rule, part(r), action(r), fmt.Sprintf("%s:%d", r.File, r.Line), r.Why)
		}
	}
	if anyRule {
		if err := rules.flush(); err != nil {
			return err
		}
		fmt.Fprintln(p.Stdout, "\n> decides   + matches too")
	}
	if len(told) > 0 {
		return others.flush()
	}
	return nil
}

// policyOf is the name of the policy that a rule is in.
func policyOf(r match.RuleTrace) string { return r.Rule[:strings.LastIndexByte(r.Rule, '/')] }

func mark(r match.RuleTrace) string {
	switch {
	case r.Decides:
		return ">"
	case r.Matches:
		return "+"
	}
	return " "
}

// part names the combination inside a rule, as in its YAML.
func part(r match.RuleTrace) string {
	entry := fmt.Sprintf("%s[%d]", r.Direction, r.Entry)
	if r.Entry < 0 {
		entry = r.Direction + ": []"
	}
	return fmt.Sprintf("processes[%d] %s", r.Selector, entry)
}

func action(r match.RuleTrace) string {
	if r.Mode == policy.ModeAudit {
		return string(r.Action) + " (audit)"
	}
	return string(r.Action)
}
