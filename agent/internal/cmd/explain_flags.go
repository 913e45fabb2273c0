package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/policy"
)

// explainFlags is what was asked.
type explainFlags struct {
	who  whoFlags
	call callFlags
	pid  uint32

	policies  []string
	addresses []string
	cluster   string
}

const clusterUsage = "file with what is known of the cluster: node and cluster, as in a test file"

// whoFlags say which process calls.
type whoFlags struct {
	workload policy.Workload
	unit     string
	cgroup   string
	origin   string
	binary   string
	script   string
	user     string
	group    string
	groups   []uint
}

// callFlags say what it does.
type callFlags struct {
	to, from, listen string
	icmpType         string
	names            []string
	query            string
	serverName       string
	request          string
	host             string
	headers          []string
}

// add defines the flags.
func (f *explainFlags) add(flags *pflag.FlagSet) {
	flags.Uint32Var(&f.pid, "pid", 0, "running process that is asked about, in place of everything that says who calls")
	flags.StringSliceVar(&f.policies, "policies", nil, "files or folders with policies, - for standard input; default: the agent's folder")
	flags.StringSliceVar(&f.addresses, "node-address", nil, "addresses that the entity host stands for")
	flags.StringVar(&f.cluster, "cluster", "", clusterUsage)
	f.who.add(flags)
	f.call.add(flags)
}

// add defines the flags.
func (f *whoFlags) add(flags *pflag.FlagSet) {
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
}

// add defines the flags.
func (f *callFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.to, "to", "", "peer that the process calls")
	flags.StringVar(&f.from, "from", "", "peer that calls the process")
	flags.StringVar(&f.listen, "listen", "", "port that the process binds or listens on, or accepts at")
	flags.StringVar(&f.icmpType, "icmp-type", "", "type of the message of ICMP or ICMPv6, a number or a name as in icmps; default: not known yet")
	flags.StringSliceVar(&f.names, "name", nil, "names that DNS has told the workload for the peer of --to")
	flags.StringVar(&f.query, "query", "", "name that the process asks the resolver of --to for")
	flags.StringVar(&f.serverName, "server-name", "", "name that the client of a TLS connection asks for")
	flags.StringVar(&f.request, "request", "", "request over HTTP that goes there, or comes in: method and path, without the query")
	flags.StringVar(&f.host, "host", "", "host that --request is for")
	flags.StringArrayVar(&f.headers, "header", nil, "header of --request, as Name: value")
}

// process is who calls.
func (f *whoFlags) process() (p policy.Process, err error) {
	origins := policy.Origins()
	if !slices.Contains(origins[:], policy.Origin(f.origin)) {
		return p, fmt.Errorf("reading --origin: %q is none of Main, Exec, Probe, Host, Unknown", f.origin)
	}
	if f.unit == "" && f.cgroup != "" {
		f.unit = policy.UnitOf(f.cgroup)
	}
	if f.unit != "" || f.cgroup != "" {
		f.workload = policy.Workload{Host: &policy.HostUnit{Unit: f.unit, Cgroup: f.cgroup}}
	}
	p = policy.Process{Workload: f.workload, Origin: policy.Origin(f.origin), Exe: f.binary, Script: f.script}
	if p.User, err = policy.ParseIDs(f.user); err != nil {
		return p, fmt.Errorf("reading --user: %w", err)
	}
	if p.Group, err = policy.ParseIDs(f.group); err != nil {
		return p, fmt.Errorf("reading --group: %w", err)
	}
	for _, id := range f.groups {
		p.Groups = append(p.Groups, uint32(min(id, uint(policy.NoID))))
	}
	return p, nil
}

// question turns the flags into what is asked.
func (f *explainFlags) question() (q policy.Question, err error) {
	if q.Call, err = f.call.parse(); err != nil {
		return q, err
	}
	for _, name := range f.call.names {
		q.Call.Names = append(q.Call.Names, policy.NormalName(name))
	}
	if f.call.icmpType != "" {
		n, err := policy.ParseICMPType(q.Call.Protocol, f.call.icmpType)
		if err != nil {
			return q, fmt.Errorf("reading --icmp-type: %w", err)
		}
		q.Call.ICMPType = &n
	}
	for _, name := range []struct {
		text string
		to   **string
	}{{f.call.query, &q.Query}, {f.call.serverName, &q.ServerName}} {
		if name.text != "" {
			normal := policy.NormalName(name.text)
			*name.to = &normal
		}
	}
	if q.Request, err = f.call.asked(); err != nil {
		return q, err
	}
	return q, q.Check()
}

// parse reads the call.
func (f *callFlags) parse() (c policy.Call, err error) {
	given := slices.DeleteFunc([]string{f.to, f.from, f.listen}, func(s string) bool { return s == "" })
	switch {
	case len(given) != 1:
		return c, errors.New("give one of --to, --from and --listen")
	case f.listen != "":
		return policy.ParseListen(f.listen)
	}
	c, err = policy.ParseCall(given[0])
	if f.from != "" {
		c.Direction = policy.Ingress
	}
	return c, err
}

// asked is the request of the flags; nil: there is none.
func (f *callFlags) asked() (*policy.Request, error) {
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
	r := &policy.Request{Method: method, Path: path, Host: f.host}
	for _, text := range f.headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("reading --header: %q has no colon: want 'Name: value'", text)
		}
		r.Headers = append(r.Headers, policy.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	return r, nil
}
