package format

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
)

const (
	maxWidth = 120 // of a line that holds a list or a mapping
	maxFlow  = 3   // how deep lists and mappings may nest on one line
)

// blocks are the fields whose entries each begin on a line of their own, even if they are short: they
// are what people read and compare.
var blocks = []string{"metadata", "spec", "specs", "rules", "processes", "egress", "ingress", "egressDeny", "ingressDeny", "toPorts", "cases"}

// arrange puts a document into its form: fields in order, each list and mapping on one line or on
// several, quotes where they are needed.
func arrange(doc *yaml.Node) {
	root := doc.Content[0]
	if !anchored(root) { // an anchor must stay before its aliases
		sortFields(root, modelOf(root))
		for _, item := range listed(root) {
			sortFields(item, modelOf(item))
		}
	}
	shape(root, place{block: true})
}

// listed returns the documents in a list of documents.
func listed(root *yaml.Node) []*yaml.Node {
	if !strings.HasSuffix(kindOf(root), "List") {
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "items" && root.Content[i+1].Kind == yaml.SequenceNode {
			return root.Content[i+1].Content
		}
	}
	return nil
}

// modelOf returns the type whose fields say the order of a document's fields.
func modelOf(root *yaml.Node) order {
	switch kind := kindOf(root); {
	case kind == cases.Kind:
		return caseOrder()
	case strings.HasSuffix(kind, policy.KindProcessPolicy):
		return orderOf(reflect.TypeFor[policy.Policy]())
	}
	// A policy of somebody else's: its own fields stay as they were written.
	return order{names: []string{"apiVersion", "kind", "metadata", "spec", "specs", "items", "status"}, below: map[string]order{
		"metadata": orderOf(reflect.TypeFor[policy.Metadata]()),
	}}
}

// order is the order of the fields of a mapping (or of the mappings in a list), and of those below.
type order struct {
	names []string
	below map[string]order
}

// orderOf reads the order from the model's Go types, which are written in the order of the reference.
func orderOf(t reflect.Type) order {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	var o order
	if t.Kind() != reflect.Struct {
		return o
	}
	o.below = map[string]order{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous {
			embedded := orderOf(f.Type)
			o.names = append(o.names, embedded.names...)
			maps.Copy(o.below, embedded.below)
			continue
		}
		if name == "" { // a type that marshals itself names its fields as they are called
			name = strings.ToLower(f.Name[:1]) + f.Name[1:]
		}
		o.names = append(o.names, name)
		o.below[name] = orderOf(f.Type)
	}
	return o
}

// caseOrder is the order of a file of test cases.
func caseOrder() order {
	workload := order{names: []string{"namespace", "namespaceLabels", "podLabels", "serviceAccount", "container", "containerType", "ports", "host"}}
	request := order{
		names: []string{"method", "path", "host", "headers"}, below: map[string]order{"headers": {names: []string{"name", "value"}}},
	}
	return order{
		names: []string{"apiVersion", "kind", "policies", "node", "cluster", "workload", "cases"},
		below: map[string]order{"workload": workload, "cluster": clusterOrder(), "cases": {
			names: []string{
				"name", "workload", "origin", "binary", "script", "user", "group",
				"to", "names", "query", "request", "serverName", "icmpType", "from", "listen", "expect", "would", "rule", "reason", "alert",
			},
			below: map[string]order{"workload": workload, "request": request},
		}},
	}
}

func clusterOrder() order {
	ports := order{names: []string{"name", "port", "protocol", "backends"}}
	things := order{
		names: []string{"name", "namespace", "labels", "serviceAccount", "addresses", "ports"}, below: map[string]order{"ports": ports},
	}
	return order{
		names: []string{"namespaces", "pods", "services", "remoteNodes", "apiServers", "health", "podCIDRs"},
		below: map[string]order{"namespaces": things, "pods": things, "services": things},
	}
}

// sortFields sorts the fields of mappings. Those that the order does not know come last, as they were.
func sortFields(n *yaml.Node, o order) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			sortFields(item, o)
		}
	case yaml.MappingNode:
		type pair struct {
			key, value *yaml.Node
			at         int
		}
		pairs := make([]pair, 0, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			p := pair{n.Content[i], n.Content[i+1], slices.Index(o.names, n.Content[i].Value)}
			if p.at < 0 {
				p.at = len(o.names)
			}
			sortFields(p.value, o.below[p.key.Value])
			pairs = append(pairs, p)
		}
		keepComments(n, func() {
			slices.SortStableFunc(pairs, func(a, b pair) int { return a.at - b.at })
			for i, p := range pairs {
				n.Content[2*i], n.Content[2*i+1] = p.key, p.value
			}
		})
	case yaml.DocumentNode, yaml.AliasNode, yaml.ScalarNode: // have no fields
	}
}

// keepComments leaves the comment before a mapping's first field before its first field, and the one
// after its last field at its end: they are most often about the whole mapping.
func keepComments(n *yaml.Node, change func()) {
	if len(n.Content) == 0 {
		return
	}
	first, last := n.Content[0], n.Content[len(n.Content)-2]
	head, foot := first.HeadComment, last.FootComment
	first.HeadComment, last.FootComment = "", ""
	change()
	first, last = n.Content[0], n.Content[len(n.Content)-2]
	first.HeadComment = strings.TrimSpace(head + "\n" + first.HeadComment)
	last.FootComment = strings.TrimSpace(last.FootComment + "\n" + foot)
}

// anchored says whether there is an anchor or an alias in a document.
func anchored(n *yaml.Node) bool {
	return n.Anchor != "" || n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, anchored)
}

// place is where a value stands.
type place struct {
	base   int  // the column of its lines, if it gets lines of its own
	column int  // where it begins, if it does not
	block  bool // it must not stand on one line
	items  bool // the entries of it must not
}

// shape decides for a value and all below whether it stands on one line.
func shape(n *yaml.Node, at place) {
	switch n.Kind {
	case yaml.ScalarNode:
		scalar(n)
	case yaml.MappingNode, yaml.SequenceNode:
		if oneLine(n, at) {
			flatten(n)
			return
		}
		n.Style &= yaml.TaggedStyle
		if n.Kind == yaml.MappingNode {
			shapeFields(n, at)
			return
		}
		for _, item := range n.Content {
			shape(item, place{base: at.base + indent, column: at.base + indent, block: at.items})
			moveComment(item, item)
			raiseComment(item)
		}
	case yaml.DocumentNode, yaml.AliasNode: // have no shape
	}
}

// shapeFields shapes the fields of a mapping that has lines of its own.
func shapeFields(n *yaml.Node, at place) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		scalar(key)
		list := value.Kind == yaml.SequenceNode
		named := slices.Contains(blocks, key.Value) && (list || key.Value != "rules") // rules of a port are a mapping
		below := place{
			base: at.base + indent, column: at.base + len(key.Value) + len(": "),
			block: named || key.LineComment != "", items: named && list && key.Value != "cases",
		}
		if list {
			below.base = at.base // the dash of an entry stands below its key
		}
		shape(value, below)
		moveComment(value, key)
	}
}

// flatten puts a value onto one line.
func flatten(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		scalar(n)
		return
	}
	n.Style = n.Style&yaml.TaggedStyle | yaml.FlowStyle
	for _, child := range n.Content {
		flatten(child)
	}
}

// moveComment puts the comment behind a list or mapping that gets lines of its own before the field or
// entry.
func moveComment(value, to *yaml.Node) {
	if value.LineComment == "" || value.Style&yaml.FlowStyle != 0 || value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode {
		return
	}
	to.HeadComment = strings.TrimSpace(to.HeadComment + "\n" + value.LineComment)
	value.LineComment = ""
}

// raiseComment puts the comment before the first field of an entry before the entry.
func raiseComment(item *yaml.Node) {
	if item.Kind != yaml.MappingNode || len(item.Content) == 0 || item.Content[0].HeadComment == "" {
		return
	}
	item.HeadComment = strings.TrimSpace(item.HeadComment + "\n" + item.Content[0].HeadComment)
	item.Content[0].HeadComment = ""
}

// oneLine says whether a list or mapping stands on one line.
func oneLine(n *yaml.Node, at place) bool {
	if len(n.Content) == 0 {
		return true
	}
	if at.block && (n.Kind == yaml.MappingNode || !slices.ContainsFunc(n.Content, hollow)) {
		return false
	}
	for _, child := range n.Content {
		if comments(child) > 0 {
			return false
		}
	}
	return depth(n) <= maxFlow && at.column+width(n) <= maxWidth
}

// hollow says whether a value is an empty list or mapping.
func hollow(n *yaml.Node) bool {
	return (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && len(n.Content) == 0
}

// comments counts the comments in and around a value.
func comments(n *yaml.Node) int {
	count := 0
	for _, c := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		if c != "" {
			count++
		}
	}
	for _, child := range n.Content {
		count += comments(child)
	}
	return count
}

// depth returns how deep lists and mappings nest; more than maxFlow for what cannot stand on one line.
func depth(n *yaml.Node) int {
	switch n.Kind {
	case yaml.ScalarNode:
		if strings.Contains(n.Value, "\n") {
			return maxFlow + 1
		}
		return 0
	case yaml.MappingNode, yaml.SequenceNode:
	case yaml.DocumentNode, yaml.AliasNode:
		return 0
	}
	deepest := 0
	for _, child := range n.Content {
		if deepest = max(deepest, depth(child)); deepest >= maxFlow {
			break
		}
	}
	return deepest + 1
}

// width returns about how long a value is on one line; it need not count what is longer than a line.
func width(n *yaml.Node) int {
	const punctuation = 2 // brackets, quotes, ": " and ", "
	w := len(n.Value) + punctuation
	for _, child := range n.Content {
		if w += width(child); w > maxWidth {
			break
		}
	}
	return w
}

// scalar takes the quotes away; the encoder puts those back that are needed. The tag stays: a string of
// digits is a string.
func scalar(n *yaml.Node) {
	if n.ShortTag() != "!!str" {
		n.Style &= yaml.TaggedStyle
		return
	}
	n.Tag, n.Style = "!!str", 0
	if slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(n.Value)) {
		n.Style = yaml.DoubleQuotedStyle // booleans of YAML 1.1, which other readers may still speak
	}
}
