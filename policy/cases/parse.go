package cases

import (
	"fmt"
	"net/netip"
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
	names    map[string]int // line of the case that has the name, in the whole file
}

// Parse reads the documents of a test file. name stands in the errors. The error is a policy.Errors
// with everything that is wrong; nothing of such a file is run, because a case that was left out would
// look like one that passed.
func Parse(name string, data []byte) ([]Set, error) {
	var sets []Set
	names := map[string]int{}
	total := 0
	err := policy.ReadStrict(name, data, func(s *policy.Strict, v policy.Value) {
		p := parser{
			Strict: s, file: name, names: names, set: Set{File: name, Line: v.Line()},
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

// document reads one document. The cases come last: they need what stands beside them.
func (p *parser) document(v policy.Value) {
	var list *policy.Value
	p.Mapping(
		v,
		policy.Field{Name: "apiVersion", Required: policy.APIVersion, Read: func(v policy.Value) { policy.Word(p.Strict, v, policy.APIVersion) }},
		policy.Field{Name: "kind", Required: Kind, Read: func(v policy.Value) { policy.Word(p.Strict, v, Kind) }},
		policy.Field{Name: "policies", Read: p.policies},
		policy.Field{Name: "node", Read: p.node},
		policy.Field{Name: "workload", Read: func(v policy.Value) { p.readWorkload(v, &p.workload) }},
		policy.Field{Name: "cases", Required: "cases: [{name: NAME, to: ADDRESS:PORT/PROTOCOL, expect: VERDICT}]", Read: func(v policy.Value) { list = &v }},
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
	p.Mapping(v, policy.Field{Name: "addresses", Required: "addresses: [192.0.2.1]", Read: func(v policy.Value) {
		for _, item := range p.List(v) {
			text, ok := p.Text(item)
			if !ok {
				continue
			}
			address, err := netip.ParseAddr(text)
			if err != nil {
				p.Fail(item, "192.0.2.1 or 2001:db8::1", policy.Quote(text)+" is no address")
			}
			p.set.Node.Addresses = append(p.set.Node.Addresses, address)
		}
	}})
}

// readWorkload reads a workload; what it leaves out stays as it is.
func (p *parser) readWorkload(v policy.Value, w *policy.Workload) {
	p.Mapping(
		v,
		policy.Field{Name: "namespace", Read: p.text(&w.Namespace)},
		policy.Field{Name: "podLabels", Read: func(v policy.Value) { w.Labels = p.Labels(v) }},
		policy.Field{Name: "container", Read: p.text(&w.Container)},
		policy.Field{Name: "containerType", Read: func(v policy.Value) {
			w.ContainerType = string(policy.Word(p.Strict, v,
				policy.ContainerApp, policy.ContainerInit, policy.ContainerSidecar, policy.ContainerEphemeral))
		}},
	)
}

// text makes a field that is a string.
func (p *parser) text(to *string) func(policy.Value) {
	return func(v policy.Value) { *to, _ = p.Text(v) }
}

// readCase reads one entry of cases. It makes a case for each peer that the entry lists.
func (p *parser) readCase(v policy.Value) {
	c := Case{File: p.file, Line: v.Line(), Process: policy.Process{Workload: p.workload, Origin: policy.OriginMain}}
	var calls []policy.Call
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
		{Name: "to", Read: take(policy.Egress)},
		{Name: "from", Read: take(policy.Ingress)},
		{Name: "listen", Read: func(v policy.Value) { calls = append(calls, p.listen(v)...) }},
	}
	present, ok := p.Mapping(v, append(fields, p.wants(&c.Want)...)...)
	if !ok {
		return
	}
	p.check(v, &c, present)
	for _, call := range calls {
		one := c
		one.Call = call
		if len(calls) > 1 {
			one.Name += ": " + one.What()
		}
		p.set.Cases = append(p.set.Cases, one)
	}
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
			if strings.Count(w.Rule, "/") != 2 {
				p.Fail(v, "NAMESPACE/POLICY/RULE", policy.Quote(w.Rule)+" is no name of a rule")
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

// check looks at a case as a whole.
func (p *parser) check(v policy.Value, c *Case, present map[string]bool) {
	targets := 0
	for _, field := range []string{"to", "from", "listen"} {
		if present[field] {
			targets++
		}
	}
	if targets != 1 {
		p.Fail(v, "to: 192.0.2.1:443/TCP", "a case has one of to, from and listen")
	}
	if c.Want.Would != "" && c.Want.Verdict != policy.VerdictAudit {
		p.Refuse(v, "would", "expect: Audit", "is only decided for an audited call")
	}
	if !present["name"] {
		return
	}
	if first, twice := p.names[c.Name]; twice {
		p.Refuse(v, "name", "names are unique in a file", fmt.Sprintf("%s is also the name of the case in line %d", policy.Quote(c.Name), first))
	}
	if c.Name == "" {
		p.Refuse(v, "name", "say what is shown", "is empty")
	}
	p.names[c.Name] = c.Line
}

// calls reads one peer or a list of them.
func (p *parser) calls(v policy.Value, direction policy.Direction) []policy.Call {
	return p.several(v, func(text string) (policy.Call, error) {
		c, err := policy.ParseCall(text)
		c.Direction = direction
		return c, err
	})
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
