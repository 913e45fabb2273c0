package cases

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

const maxCases = 1 << 16 // of one file

// parser reads one document.
type parser struct {
	*policy.Strict
	file     string
	set      Set
	workload policy.Workload
	taken    map[string]int // line of the case that has the name, in the whole file
	facts    bool           // what is known of node and cluster is asked for, cases may be missing
	says     bool           // there is something of the cluster
}

// Parse reads the documents of a test file. name stands in the errors. The error is a policy.Errors
// with everything that is wrong; nothing of such a file is run, because a case that was left out would
// look like one that passed.
func Parse(name string, data []byte) ([]Set, error) {
	var sets []Set
	taken := map[string]int{}
	total := 0
	err := policy.ReadStrict(name, data, func(s *policy.Strict, v policy.Value) {
		p := parser{
			Strict: s, file: name, taken: taken, set: Set{File: name, Line: v.Line()},
			workload: policy.Workload{Namespace: policy.DefaultNamespace, Container: "app", ContainerType: string(policy.ContainerApp)},
		}
		p.document(v)
		if total += len(p.set.Cases); total > maxCases {
			p.Fail(v, "split it", fmt.Sprintf("the file has more than %d cases", maxCases))
			return
		}
		sets = append(sets, p.set)
	})
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		return nil, policy.Errors{{File: name, Message: "holds no cases", Hint: "a document begins with kind: " + Kind}}
	}
	return sets, nil
}

// Facts reads what the documents of a test file, which need no cases here, say of the node and the cluster. Only one of them may say
// something of these.
func Facts(name string, data []byte) (node policy.Node, world policy.World, err error) {
	known := false
	err = policy.ReadStrict(name, data, func(s *policy.Strict, v policy.Value) {
		p := parser{Strict: s, file: name, taken: map[string]int{}, facts: true}
		p.document(v)
		if p.set.Node.Addresses == nil && !p.says {
			return
		}
		if known {
			p.Fail(v, "one document with node and cluster", "another document has said what is known of the cluster")
		}
		known, node, world = true, p.set.Node, p.set.World
	})
	if err == nil && !known {
		err = policy.Errors{{File: name, Message: "says nothing of a node or a cluster", Hint: "a document has kind: " + Kind + " and node: or cluster:"}}
	}
	return node, world, err
}

// document reads one document. The cases come last: they need what stands beside them.
func (p *parser) document(v policy.Value) {
	var list *policy.Value
	required := "cases: [{name: NAME, to: ADDRESS:PORT/PROTOCOL, expect: VERDICT}]"
	if p.facts {
		required = ""
	}
	p.Mapping(
		v,
		policy.Field{Name: "apiVersion", Required: policy.APIVersion, Read: func(v policy.Value) { policy.Word(p.Strict, v, policy.APIVersion) }},
		policy.Field{Name: "kind", Required: Kind, Read: func(v policy.Value) { policy.Word(p.Strict, v, Kind) }},
		policy.Field{Name: "policies", Read: p.policies},
		policy.Field{Name: "node", Read: p.node},
		policy.Field{Name: "cluster", Read: func(v policy.Value) { p.says = true; p.cluster(v) }},
		policy.Field{Name: "workload", Read: func(v policy.Value) { p.readWorkload(v, &p.workload) }},
		policy.Field{Name: "cases", Required: required, Read: func(v policy.Value) { list = &v }},
	)
	if list == nil {
		return
	}
	for _, item := range p.List(*list) {
		p.readCase(item)
	}
}

// policies reads the names of files and folders.
func (p *parser) policies(v policy.Value) {
	p.set.Policies = []string{}
	for _, item := range p.List(v) {
		if name, ok := p.Text(item); ok {
			if name == "" || strings.ContainsRune(name, 0) {
				p.Fail(item, "a file or folder, from the folder of this file", policy.Quote(name)+" names no file")
			}
			p.set.Policies = append(p.set.Policies, name)
		}
	}
}

// node reads what is known about the node.
func (p *parser) node(v policy.Value) {
	p.Mapping(v, policy.Field{Name: "addresses", Required: "addresses: [192.0.2.1]", Read: p.addresses(&p.set.Node.Addresses)})
}

// readWorkload reads a workload; what it leaves out stays as it is.
func (p *parser) readWorkload(v policy.Value, w *policy.Workload) {
	present, _ := p.Mapping(
		v,
		policy.Field{Name: "namespace", Read: p.text(&w.Namespace)},
		policy.Field{Name: "namespaceLabels", Read: func(v policy.Value) { w.NamespaceLabels = p.Labels(v) }},
		policy.Field{Name: "podLabels", Read: func(v policy.Value) { w.Labels = p.Labels(v) }},
		policy.Field{Name: "serviceAccount", Read: p.text(&w.ServiceAccount)},
		policy.Field{Name: "container", Read: p.text(&w.Container)},
		policy.Field{Name: "containerType", Read: func(v policy.Value) {
			w.ContainerType = string(policy.Word(p.Strict, v,
				policy.ContainerApp, policy.ContainerInit, policy.ContainerSidecar, policy.ContainerEphemeral))
		}},
		policy.Field{Name: "ports", Read: func(v policy.Value) { w.Ports = p.namedPorts(v) }},
		policy.Field{Name: "host", Read: func(v policy.Value) { w.Host = p.host(v) }},
	)
	if !present["host"] {
		return
	}
	if len(present) > 1 {
		p.Fail(v, "leave the other fields out", "a process of the node is in no pod")
	}
	*w = policy.Workload{Host: w.Host}
}

// host reads a workload of the node itself.
func (p *parser) host(v policy.Value) *policy.HostUnit {
	h := &policy.HostUnit{}
	p.Mapping(v, policy.Field{Name: "unit", Read: p.text(&h.Unit)}, policy.Field{Name: "cgroup", Read: p.text(&h.Cgroup)})
	return h
}

// text makes a field that is a string.
func (p *parser) text(to *string) func(policy.Value) {
	return func(v policy.Value) { *to, _ = p.Text(v) }
}

// ids reads the ids of a process: one, or a list of the real, the saved and the effective one.
func (p *parser) ids(v policy.Value) policy.IDs {
	if !p.IsList(v) {
		return policy.OneID(p.ID(v))
	}
	var ids policy.IDs
	items := p.List(v)
	if len(items) != len(ids) {
		p.Fail(v, "[1000, 0, 0]", "the real, the saved and the effective id are three")
		return ids
	}
	for i, item := range items {
		ids[i] = p.ID(item)
	}
	return ids
}

// readCase reads one entry of cases. It makes a case for each peer that the entry lists.
func (p *parser) readCase(v policy.Value) {
	c := Case{File: p.file, Line: v.Line(), Process: policy.Process{Workload: p.workload, Origin: policy.OriginMain}}
	var calls []policy.Call
	var names []string
	var icmpType *policy.Value
	origins := policy.Origins()
	take := func(direction policy.Direction) func(policy.Value) {
		return func(v policy.Value) { calls = append(calls, p.calls(v, direction)...) }
	}
	fields := []policy.Field{
		{Name: "name", Required: "a case needs a name, unique in the file", Read: p.text(&c.Name)},
		{Name: "workload", Read: func(v policy.Value) { p.readWorkload(v, &c.Process.Workload) }},
		{Name: "origin", Read: func(v policy.Value) { c.Process.Origin = policy.Word(p.Strict, v, origins[:]...) }},
		{Name: "binary", Read: p.text(&c.Process.Exe)},
		{Name: "script", Read: p.text(&c.Process.Script)},
		{Name: "user", Read: func(v policy.Value) { c.Process.User = p.ids(v) }},
		{Name: "group", Read: func(v policy.Value) { c.Process.Group = p.ids(v) }},
		{Name: "groups", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				c.Process.Groups = append(c.Process.Groups, p.ID(item))
			}
		}},
		{Name: "to", Read: take(policy.Egress)},
		{Name: "names", Read: func(v policy.Value) { names = p.names(v) }},
		{Name: "query", Read: func(v policy.Value) { c.Query = p.name(v) }},
		{Name: "request", Read: func(v policy.Value) { c.Request = p.request(v) }},
		{Name: "serverName", Read: func(v policy.Value) { c.ServerName = new(p.name(v)) }},
		{Name: "icmpType", Read: func(v policy.Value) { icmpType = &v }},
		{Name: "from", Read: take(policy.Ingress)},
		{Name: "listen", Read: func(v policy.Value) { calls = append(calls, p.listen(v)...) }},
	}
	present, ok := p.Mapping(v, append(fields, p.wants(&c.Want)...)...)
	if !ok {
		return
	}
	right := p.check(v, &c, present)
	for _, call := range calls {
		one := c
		one.Call = call
		one.Call.Names = append(slices.Clone(call.Names), names...)
		if icmpType != nil {
			one.Call.ICMPType = new(p.ICMPType(*icmpType, call.Protocol))
		}
		if q := one.question(); right && q.Check() != nil {
			p.Fail(v, "", q.Check().Error())
		}
		if len(calls) > 1 {
			one.Name += ": " + one.What()
		}
		p.set.Cases = append(p.set.Cases, one)
	}
}

// request reads what is asked for over HTTP.
func (p *parser) request(v policy.Value) *policy.Request {
	r := &policy.Request{}
	fields := []policy.Field{
		{Name: "method", Required: "GET, POST, …", Read: p.text(&r.Method)},
		{Name: "path", Required: "/v1/charge, without the query", Read: p.text(&r.Path)},
		{Name: "host", Read: p.text(&r.Host)},
		{Name: "headers", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				r.Headers = append(r.Headers, p.header(item))
			}
		}},
	}
	p.Mapping(v, fields...)
	return r
}

// header reads one header of a request.
func (p *parser) header(v policy.Value) (h policy.Header) {
	p.Mapping(v, policy.Field{Name: "name", Required: "of the header", Read: p.text(&h.Name)}, policy.Field{Name: "value", Read: p.text(&h.Value)})
	return h
}

// wants are the fields that say what shall be decided.
func (p *parser) wants(w *Want) []policy.Field {
	return []policy.Field{
		{Name: "expect", Required: "Allow, Deny, …", Read: func(v policy.Value) {
			w.Verdict = policy.Word(p.Strict, v, policy.VerdictAllow, policy.VerdictAudit, policy.VerdictDeny,
				policy.VerdictDrop, policy.VerdictReset, policy.VerdictKill)
		}},
		{Name: "would", Read: func(v policy.Value) {
			w.Would = policy.Word(p.Strict, v, policy.VerdictDeny, policy.VerdictDrop, policy.VerdictReset, policy.VerdictKill)
		}},
		{Name: "rule", Read: func(v policy.Value) {
			w.Rule, _ = p.Text(v)
			if !strings.Contains(w.Rule, "/") {
				p.Fail(v, "NAMESPACE/POLICY/RULE, or KIND:POLICY/RULE for a policy of no namespace", policy.Quote(w.Rule)+" is no name of a rule")
			}
		}},
		{Name: "reason", Read: func(v policy.Value) {
			w.Reason = policy.Word(p.Strict, v, policy.ReasonRule, policy.ReasonDefault, policy.ReasonUngoverned, policy.ReasonLoopback)
		}},
		{Name: "alert", Read: func(v policy.Value) {
			w.Alert = policy.Word(p.Strict, v, policy.SeverityInfo, policy.SeverityWarning, policy.SeverityCritical)
		}},
	}
}

// check looks at a case as a whole, and says whether its question makes sense as far as that goes.
func (p *parser) check(v policy.Value, c *Case, present map[string]bool) (right bool) {
	targets := 0
	right = true
	for _, field := range []string{"to", "from", "listen"} {
		if present[field] {
			targets++
		}
	}
	if targets != 1 {
		p.Fail(v, "to: 192.0.2.1:443/TCP", "a case has one of to, from and listen")
		right = false
	}
	for _, field := range []string{"names", "query"} {
		if present[field] && !present["to"] {
			p.Refuse(v, field, "to: 192.0.2.1:443/TCP", "is about a call that leaves")
			right = false
		}
	}
	if present["request"] && (present["listen"] || present["query"]) {
		p.Refuse(v, "request", "to: 192.0.2.1:80/TCP", "is about a connection")
		right = false
	}
	if c.Want.Would != "" && c.Want.Verdict != policy.VerdictAudit {
		p.Refuse(v, "would", "expect: Audit", "is only decided for an audited call")
	}
	if !present["name"] {
		return right
	}
	if first, twice := p.taken[c.Name]; twice {
		p.Refuse(v, "name", "names are unique in a file", fmt.Sprintf("%s is also the name of the case in line %d", policy.Quote(c.Name), first))
	}
	if c.Name == "" {
		p.Refuse(v, "name", "say what is shown", "is empty")
	}
	p.taken[c.Name] = c.Line
	return right
}

// unnamed stands for the address of a peer that is only named: the dummy address of RFC 7600, which is
// nobody's.
func unnamed() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 0, 8}) }

// calls reads one peer or a list of them. A peer that leaves may be a name.
func (p *parser) calls(v policy.Value, direction policy.Direction) []policy.Call {
	return p.several(v, func(text string) (policy.Call, error) {
		if name, port, ok := strings.Cut(text, ":"); ok && direction == policy.Egress {
			if n, err := policy.ParseName(name); err == nil && strings.Trim(name, "0123456789.") != "" {
				c, err := policy.ParseCall(unnamed().String() + ":" + port)
				c.Names = []string{policy.FQDNSelector{MatchName: n}.String()}
				return c, err
			}
		}
		c, err := policy.ParseCall(text)
		c.Direction = direction
		return c, err
	})
}

// names reads the names that DNS has told the workload for the peer.
func (p *parser) names(v policy.Value) (out []string) {
	for _, item := range p.List(v) {
		out = append(out, p.name(item))
	}
	return out
}

// name reads a DNS name.
func (p *parser) name(v policy.Value) string {
	text, ok := p.Text(v)
	if !ok {
		return ""
	}
	n, err := policy.ParseName(text)
	if err != nil {
		p.Fail(v, "www.example.com", policy.Quote(text)+" is no name: "+err.Error())
	}
	return policy.FQDNSelector{MatchName: n}.String()
}

// listen reads one port or a list of them.
func (p *parser) listen(v policy.Value) []policy.Call { return p.several(v, policy.ParseListen) }

func (p *parser) several(v policy.Value, parse func(string) (policy.Call, error)) (out []policy.Call) {
	items := []policy.Value{v}
	if p.IsList(v) {
		items = p.List(v)
	}
	for _, item := range items {
		text, ok := p.Text(item)
		if !ok {
			continue
		}
		c, err := parse(text)
		if err != nil {
			p.Fail(item, "", err.Error())
		}
		out = append(out, c)
	}
	return out
}
