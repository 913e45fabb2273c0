package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads the policies of one file: one or more YAML documents, or JSON. name stands in the
// errors. The result is either every policy of the file or an Errors with everything that is wrong
// with it: a file is used whole or not at all (fails closed, the caller keeps what it had).
func Parse(name string, data []byte) ([]*Policy, error) {
	d := &decoder{file: name}
	policies := d.parse(data)
	if errs := d.told(); errs != nil {
		return nil, errs
	}
	return policies, nil
}

// ParseObject is Parse for an object of an API: it has no lines, so its errors name fields only.
func ParseObject(name string, data []byte) ([]*Policy, error) {
	policies, err := Parse(name, data)
	if errs, ok := errors.AsType[Errors](err); ok {
		for _, e := range errs {
			e.Line, e.Column = 0, 0
		}
	}
	return policies, err
}

// told returns all errors in the order of their lines; nil if there is none.
func (d *decoder) told() Errors {
	if len(d.errs) == 0 {
		return nil
	}
	errs := d.errs.sorted()
	if len(errs) == maxErrors {
		errs = append(errs, &Error{File: d.file, Message: fmt.Sprintf("giving up after %d errors", maxErrors)})
	}
	return errs
}

// documents visits the documents of a YAML stream that hold something. What is no YAML is an error,
// and nothing behind it is visited.
func (d *decoder) documents(data []byte, visit func(value)) {
	if len(data) > MaxFileSize {
		d.fail(value{}, "split it", "the file has %d bytes, more than %d", len(data), MaxFileSize)
		return
	}
	stream := yaml.NewDecoder(bytes.NewReader(data))
	for !d.full {
		var doc yaml.Node
		err := stream.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			d.syntax(err)
			return
		}
		if len(doc.Content) != 1 || doc.Content[0].ShortTag() == "!!null" {
			continue // nothing between two ---, or only comments
		}
		visit(value{node: doc.Content[0]})
	}
}

// parse decodes every document of the file.
func (d *decoder) parse(data []byte) (policies []*Policy) {
	d.documents(data, func(v value) {
		for _, p := range d.document(v) {
			d.unique(policies, p)
			policies = append(policies, p)
		}
	})
	if len(policies) == 0 && len(d.errs) == 0 {
		// An empty file is more often a failed write than a wish to have no policy: that is
		// said by removing the file.
		d.fail(value{}, "remove the file if that is meant", "holds no policy")
	}
	return policies
}

// unique reports a policy whose name another one of the file has.
func (d *decoder) unique(earlier []*Policy, p *Policy) {
	for _, e := range earlier {
		if p.Metadata.Name != "" && e.Name() == p.Name() {
			at := value{&yaml.Node{Line: p.Line, Column: 1}, "metadata.name"}
			d.fail(at, "names are unique in a namespace", "policy %s is there twice, first in line %d", quote(p.Name()), e.Line)
		}
	}
}

// syntax reports what the YAML parser says. It knows a line at most.
func (d *decoder) syntax(err error) {
	e := &Error{File: d.file, Message: "is no YAML: "}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, rest, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				e.Line, text = n, rest
			}
		}
	}
	e.Message += plain(text)
	if strings.Contains(text, "cannot start any token") {
		e.Hint = "indent with spaces, not tabs, and quote values that begin with one of @ ` % & * ! |"
	}
	d.errs = append(d.errs, e)
}

// document decodes one document; a list of documents is several policies. It returns none where it is
// no policy at all.
func (d *decoder) document(v value) []*Policy {
	kind, version, ok := d.header(v)
	if !ok {
		return nil
	}
	if isList(kind) {
		return d.listed(v, kind)
	}
	p := &Policy{APIVersion: version, Kind: kind, File: d.file, Line: v.node.Line, Spec: Spec{Mode: ModeEnforce}}
	fields := meaningless("apiVersion", "kind")
	if d.foreign = version != APIVersion; d.foreign {
		fields = append(fields, meaningless("status")...)
		fields = append(fields, field{name: "metadata", parse: func(v value) {
			p.Metadata = d.foreignMetadata(v, kind != KindCiliumClusterwideNetworkPolicy)
		}})
	} else {
		fields = append(fields, refused("is filled in by Kubernetes, a policy cannot set it: remove it", "status")...)
		fields = append(fields, field{name: "metadata", parse: func(v value) { p.Metadata = d.metadata(v, kind) }})
	}
	var one, many *value
	fields = append(fields, field{name: "spec", parse: func(v value) { one = &v }})
	if version == apiVersionCilium {
		fields = append(fields, field{name: "specs", parse: func(v value) { many = &v }})
	}
	present, ok := d.object(v, fields)
	if !ok {
		return nil
	}
	d.require(v, present, "metadata", "metadata: {name: NAME, namespace: NAMESPACE}")
	if many == nil {
		d.require(v, present, "spec", "a policy without rules says nothing")
	}
	d.specs(p, one, many)
	p.inNamespace()
	return []*Policy{p}
}

// specs decodes the spec of a policy, or all that it has. Its metadata are known by then.
func (d *decoder) specs(p *Policy, one, many *value) {
	if one != nil {
		switch p.Kind {
		case KindNetworkPolicy:
			d.networkPolicy(*one, p)
		case KindCiliumNetworkPolicy, KindCiliumClusterwideNetworkPolicy:
			p.Spec.Rules = d.ciliumRule(*one)
		default:
			p.Spec = d.spec(*one, p.Kind)
		}
	}
	if many == nil {
		return
	}
	for i, rules := range some(d, *many, "a policy without rules says nothing", d.ciliumRule) {
		for _, r := range rules {
			r.Name = documentRule + "s-" + strconv.Itoa(i) + strings.TrimPrefix(r.Name, documentRule)
			p.Spec.Rules = append(p.Spec.Rules, r)
		}
	}
}

// kinds returns the kinds of documents with policies in them, and the apiVersion that each has.
func kinds() (names []string, version map[string]string) {
	names = []string{
		KindProcessPolicy, KindClusterProcessPolicy, KindHostProcessPolicy,
		KindNetworkPolicy, KindCiliumNetworkPolicy, KindCiliumClusterwideNetworkPolicy, kindList,
	}
	version = map[string]string{
		KindProcessPolicy: APIVersion, KindClusterProcessPolicy: APIVersion, KindHostProcessPolicy: APIVersion, kindList: apiVersionList,
		KindNetworkPolicy: apiVersionNetworkPolicy, KindCiliumNetworkPolicy: apiVersionCilium, KindCiliumClusterwideNetworkPolicy: apiVersionCilium,
	}
	for _, name := range names {
		if name != kindList {
			version[name+kindList] = version[name]
		}
	}
	return names, version
}

// header checks apiVersion and kind first, so that a document of another kind is one error and not
// one for every field.
func (d *decoder) header(v value) (kindOf, version string, ok bool) {
	if v.node.Kind != yaml.MappingNode {
		d.fail(v, "a policy begins with apiVersion: "+APIVersion, "the document is %s, not a mapping", kind(v.node))
		return "", "", false
	}
	found := map[string]value{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if name := v.node.Content[i].Value; name == "apiVersion" || name == "kind" {
			if _, twice := found[name]; !twice { // the second one is reported by object
				found[name] = value{v.node.Content[i+1], join(v.path, name)}
			}
		}
	}
	want := map[string]string{"apiVersion": APIVersion, "kind": KindProcessPolicy}
	for _, name := range []string{"kind", "apiVersion"} {
		if at, ok := found[name]; !ok {
			d.fail(value{v.node, join(v.path, name)}, name+": "+want[name], "is missing")
			return "", "", false
		} else if _, ok := d.text(at); !ok {
			return "", "", false
		}
	}
	names, versions := kinds()
	kindOf, version = d.resolve(found["kind"]).node.Value, d.resolve(found["apiVersion"]).node.Value
	if _, known := versions[kindOf]; !known {
		hint := ""
		if meant, ok := closest(kindOf, names); ok {
			hint = "did you mean " + meant + "?"
		}
		d.fail(found["kind"], hint, "%s is no kind of policy: there are %s", quote(kindOf), list(names))
		return "", "", false
	}
	if version != versions[kindOf] {
		d.fail(found["apiVersion"], "", "%s is not the version of a %s: there is %s", quote(version), kindOf, versions[kindOf])
		return "", "", false
	}
	return kindOf, version, true
}

// metadata decodes metadata.
func (d *decoder) metadata(v value, kind string) Metadata {
	m := Metadata{Namespace: DefaultNamespace}
	// A runtime's namespace can hold more than a Kubernetes one: k8s.io, my_Team.
	namespace := field{name: "namespace", parse: func(v value) { m.Namespace = d.name(v, maxNamespaceLength, "-._", true) }}
	if kind == KindClusterProcessPolicy || kind == KindHostProcessPolicy {
		m.Namespace = ""
		namespace = field{name: "namespace", reason: "is not for a " + kind + ", which is in no namespace"}
	}
	present, ok := d.object(v, append([]field{
		{name: "name", parse: func(v value) { m.Name = d.name(v, maxNameLength, "-.", false) }},
		namespace,
		{name: "labels", parse: func(v value) { m.Labels = d.labels(v) }},
		{name: "annotations", parse: func(v value) { m.Annotations = d.labels(v) }},
	}, refused("is filled in by Kubernetes, a policy cannot set it: remove it",
		"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
		"generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid")...))
	if ok {
		d.require(v, present, "name", "a policy needs a name, unique in its namespace")
	}
	return m
}

// name decodes a name: letters and digits, and inside also the bytes of inner.
func (d *decoder) name(v value, maxLength int, inner string, upper bool) string {
	s, ok := d.text(v)
	if !ok {
		return ""
	}
	letters := "lower case letters"
	if upper {
		letters = "letters"
	}
	hint := fmt.Sprintf("%s and digits, inside also %s, at most %d", letters, list(strings.Split(inner, "")), maxLength)
	if s == "" || len(s) > maxLength {
		d.fail(v, hint, "a name of %d bytes", len(s))
		return ""
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || upper && 'A' <= c && c <= 'Z'
		inside := 0 < i && i < len(s)-1 && strings.IndexByte(inner, c) >= 0
		if !alphanumeric && !inside {
			d.fail(v, hint, "%s is no name", quote(s))
			return ""
		}
	}
	return s
}

// labelKey checks the key of a label: an optional prefix and /, then a name.
func (d *decoder) labelKey(v value, key string) {
	prefix, name, slash := strings.Cut(key, "/")
	if !slash {
		prefix, name = "", key
	}
	okay := func(s string, most int, inner string) bool {
		for i := range len(s) {
			c := s[i] | 0x20
			if ('a' > c || c > 'z') && ('0' > s[i] || s[i] > '9') && (i == 0 || i == len(s)-1 || strings.IndexByte(inner, s[i]) < 0) {
				return false
			}
		}
		return s != "" && len(s) <= most
	}
	if !okay(name, 63, "-._") || slash && !okay(prefix, maxNameLength, "-.") {
		d.fail(v, "app, or a prefix with /: app.kubernetes.io/name", "%s is no key of a label", quote(key))
	}
}
