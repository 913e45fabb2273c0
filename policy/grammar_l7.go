package policy

import "strings"

// l7Rules decodes rules: what is said inside the connections.
func (d *decoder) l7Rules(v value) *L7Rules {
	r := &L7Rules{}
	fields := append([]field{
		{name: "dns", parse: func(v value) {
			r.DNS = some(d, v, "leave it out to allow every query; - matchPattern: \"*\" does too, and fills the names of toFQDNs", d.fqdn)
		}},
		{name: "http", parse: func(v value) {
			r.HTTP = some(d, v, "leave it out to allow every request; - {} does too, and refuses what is no HTTP", d.httpRule)
		}},
	}, later("kafka", "l7", "l7proto")...)
	if !d.foreign {
		fields = append(fields, field{name: "grpc", parse: func(v value) {
			r.GRPC = some(d, v, "leave it out to allow every call", d.grpcRule)
		}})
	}
	present, ok := d.object(v, fields)
	switch {
	case !ok:
	case len(present) == 0:
		d.fail(v, "rules: {dns: [{matchPattern: \"*.example.com\"}]}", "is empty")
	case len(present) > 1:
		d.fail(v, "write two entries of toPorts", "has more than one protocol")
	}
	return r
}

// l7Ports refuses rules on ports that cannot carry what they are about.
func (d *decoder) l7Ports(v value, r *PortRule, dir Direction) {
	if r.Rules.HTTP != nil {
		d.tcpPorts(value{v.node, join(v.path, "http")}, r.Ports, "HTTP")
	}
	if r.Rules.GRPC != nil {
		d.tcpPorts(value{v.node, join(v.path, "grpc")}, r.Ports, "gRPC")
	}
	if r.Rules.DNS == nil {
		return
	}
	at := value{v.node, join(v.path, "dns")}
	if dir == Ingress {
		d.fail(at, "queries are judged where they leave the workload: egress", "is not possible for ingress")
	}
	for _, p := range r.Ports {
		switch {
		case p.Port == 0 && p.Protocol == "" || p.Name != "": // reported already, or a port that the resolver's pod names
		case p.Port == 0:
			d.fail(at, "name the resolver's port: {port: \"53\", protocol: ANY}", "needs a port, %s has none", p.Protocol)
		case p.Protocol == ProtocolSCTP:
			d.fail(at, "UDP, TCP or ANY", "DNS does not run over %s", p.Protocol)
		}
	}
}

// tcpPorts refuses ports that are not of TCP alone: over another protocol the same bytes would pass
// without anybody having read them.
func (d *decoder) tcpPorts(at value, ports []Port, what string) {
	for _, p := range ports {
		if p.Protocol != ProtocolTCP && (p.Protocol != "" || p.Port != 0 || p.Name != "") {
			d.fail(at, "{port: \"443\", protocol: TCP}", "%s is read on TCP only, and a port is of %s", what, nameOr(p.Protocol, ProtocolAny))
		}
	}
}

func nameOr(p, otherwise Protocol) Protocol {
	if p == "" {
		return otherwise
	}
	return p
}

// serverName decodes one of serverNames.
func (d *decoder) serverName(v value) NamePattern {
	text, ok := d.text(v)
	if !ok {
		return NamePattern{}
	}
	p, err := ParseNamePattern(text)
	if err != nil {
		d.fail(v, "", "%s is no name: %v", quote(text), err)
	}
	return p
}

// httpRule decodes one of http.
func (d *decoder) httpRule(v value) HTTPRule {
	var r HTTPRule
	d.object(v, []field{
		{name: "method", parse: func(v value) { r.Method = d.regex(v) }},
		{name: "path", parse: func(v value) { r.Path = d.regex(v) }},
		{name: "host", parse: func(v value) { r.Host = d.regex(v) }},
		{name: "headers", parse: func(v value) { r.Headers = some(d, v, "leave it out to demand no header", d.headerLine) }},
		{name: "headerMatches", parse: func(v value) { r.HeaderMatches = some(d, v, "leave it out to demand no header", d.headerMatch) }},
	})
	d.demandedOnce(v, &r)
	return r
}

// grpcRule decodes one of grpc.
func (d *decoder) grpcRule(v value) GRPCRule {
	var r GRPCRule
	present, ok := d.object(v, []field{
		{name: "service", parse: func(v value) { r.Service = d.grpcName(v, "package.Service", identifiers) }},
		{name: "method", parse: func(v value) { r.Method = d.grpcName(v, "Method", identifier) }},
	})
	if ok {
		d.require(v, present, "service", "service: package.Service")
	}
	return r
}

// grpcName decodes the full name of a service, or the name of a method, in the form that is valid.
func (d *decoder) grpcName(v value, example string, valid func(string) bool) string {
	text, ok := d.text(v)
	if ok && (len(text) > maxGRPCName || !valid(text)) {
		d.fail(v, "write it as it is in the .proto file, "+example+"; patterns are for http: {method: POST, path: /package\\.Service/Get.*}",
			"%s is no name of gRPC", quote(text))
		return ""
	}
	return text
}

// maxGRPCName bounds what one name adds to the automaton of all paths.
const maxGRPCName = 255

// identifiers says whether a text is identifiers with dots between them.
func identifiers(text string) bool {
	for part := range strings.SplitSeq(text, ".") {
		if !identifier(part) {
			return false
		}
	}
	return true
}

// identifier says whether a text is one, as protocol buffers have them: letters, digits and underscores, no digit first.
func identifier(text string) bool {
	for i := range len(text) {
		c := text[i]
		if letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'; !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}

// demandedOnce refuses a rule that demands one header twice.
func (d *decoder) demandedOnce(v value, r *HTTPRule) {
	demands := r.Demands()
	for i := range demands {
		if i > 0 && demands[i].Name == demands[i-1].Name {
			d.fail(v, "write two rules, or one demand", "demands the header %s twice", quote(demands[i].Name))
		}
	}
}

// regex decodes a regular expression. An empty one would match the empty string only, which people do
// not mean.
func (d *decoder) regex(v value) Regex {
	text, ok := d.text(v)
	if !ok {
		return Regex{}
	}
	if text == "" {
		d.fail(v, "leave it out, or write .*", "is empty")
		return Regex{}
	}
	r, err := ParseRegex(text)
	if err != nil {
		d.fail(v, "", "%s is no regular expression: %v", quote(text), err)
	}
	return r
}

// headerLine decodes one of headers.
func (d *decoder) headerLine(v value) string {
	text, ok := d.text(v)
	if ok {
		name, header, _ := strings.Cut(text, ":")
		d.headerField(v, name, header)
	}
	return text
}

// headerMatch decodes one of headerMatches.
func (d *decoder) headerMatch(v value) HeaderMatch {
	var m HeaderMatch
	present, ok := d.object(v, append([]field{
		{name: "name", parse: func(v value) { m.Name, _ = d.text(v) }},
		{name: "value", parse: func(v value) { m.Value, _ = d.text(v) }},
	}, later("mismatch", "secret")...))
	if !ok {
		return m
	}
	d.require(v, present, "name", "name: X-Token")
	d.require(v, present, "value", "in headers a name alone demands that the header is there")
	if _, named := present["name"]; named {
		d.headerField(v, m.Name, m.Value)
	}
	return m
}

// headerField checks the name and the value of a header.
func (d *decoder) headerField(v value, name, text string) {
	const others = "!#$%&'*+-.^_`|~"
	token := name != ""
	for i := range len(name) {
		c := name[i] | 0x20
		token = token && ('a' <= c && c <= 'z' || '0' <= name[i] && name[i] <= '9' || strings.IndexByte(others, name[i]) >= 0)
	}
	if strings.EqualFold(name, "host") {
		d.fail(v, "host: api\\.example", "the host is demanded by a field of its own")
	}
	if !token {
		d.fail(v, "X-Token, or X-Token: value", "%s is no name of a header", quote(name))
	}
	for i := range len(text) {
		if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
			d.fail(v, "", "the value of a header has no control characters")
			return
		}
	}
}
