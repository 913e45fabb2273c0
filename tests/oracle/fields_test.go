package oracle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/policy"
	policytests "github.com/sallyport/sallyport/policy/cases"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// fieldRow shows fields of the language: a document that has them and is right, one that is wrong and what is said of it,
// what the compiler refuses of the right one where nothing more than the node is known, and what is decided by it.
type fieldRow struct {
	Of       string   // whose language: sallyport (default), kubernetes, cilium
	Fields   []string // each with the field that it is in: toCIDRSet.cidr
	Kind     string   // of rule and spec; default ProcessPolicy
	Rule     string   // what stands in rules: [], in line 6 of a document
	Spec     string   // what stands in spec: {}, in line 4
	Document string   // a whole one
	Bad      string   // the same, wrong
	Error    string   // what is said of it
	Refused  string   // what the compiler says by the zero compile.Enforced; "": nothing
	Cases    []map[string]any
	file     string
}

// fieldCase is a case of a row, whose fields are those of PolicyTest, and what is said inside of its call.
type fieldCase struct {
	policytests.Case
	request *policy.Request
	hello   *policy.Hello
	message *uint8 // type of ICMP messages
}

// fieldWorld is what all rows know of the cluster.
const fieldWorld = `{apiVersion: sallyport.dev/v1alpha1, kind: PolicyTest, node: {addresses: [192.0.2.1]}, cluster: {
	namespaces: [{name: shop, labels: {team: pay}}, {name: default, labels: {team: core}}, {name: ops, labels: {team: ops}}],
	pods: [{name: web, labels: {app: web}, addresses: [10.0.0.5], ports: [{name: http, port: 8080}]},
		{name: db, namespace: shop, labels: {app: db}, addresses: [10.0.0.6]}, {name: other, labels: {app: other}, addresses: [10.0.0.7]},
		{name: tool, namespace: ops, addresses: [10.0.0.8]}],
	services: [{name: web, labels: {svc: web}, addresses: [10.96.0.1], ports: [{port: 80, backends: ["10.0.0.5:8080"]}]},
		{name: db, namespace: shop, labels: {svc: db}, addresses: [10.96.0.2], ports: [{port: 80, backends: ["10.0.0.6:80"]}]}],
	remoteNodes: [192.0.2.2], apiServers: [192.0.2.3], health: [10.0.0.99], podCIDRs: [10.0.0.0/16]},
	workload: {podLabels: {app: a}, namespaceLabels: {team: core}, serviceAccount: robot, ports: [{name: http, port: 8080}]}, cases: %s}`

// fieldRows reads the table.
func fieldRows(t *testing.T) (rows []fieldRow) {
	t.Helper()
	files, err := filepath.Glob("testdata/fields/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d parts of the table, %v", len(files), err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		var part []fieldRow
		d := yaml.NewDecoder(f)
		d.KnownFields(true)
		if err := cmp.Or(d.Decode(&part), f.Close()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, r := range part {
			r.Of, r.Kind, r.file = cmp.Or(r.Of, "sallyport"), cmp.Or(r.Kind, policy.KindProcessPolicy), filepath.Base(file)
			rows = append(rows, r)
		}
	}
	return rows
}

func (r *fieldRow) name() string {
	return r.Of + " " + strings.Join(r.Fields[:min(3, len(r.Fields))], " ")
}

// texts returns the document that is right and the one that is wrong.
func (r *fieldRow) texts() (good, bad string) {
	head := "apiVersion: sallyport.dev/v1alpha1\nkind: " + r.Kind + "\nmetadata: {name: p}\nspec: "
	in := func(s string) string {
		switch {
		case r.Rule != "":
			return head + "\n  podSelector: {}\n  rules: [" + s + "]\n"
		case r.Spec != "":
			return head + "{" + s + "}\n"
		}
		return s
	}
	return in(r.Rule + r.Spec + r.Document), in(r.Bad)
}

// read parses the document that is right and the cases; each workload of these is one that the input knows.
func (r *fieldRow) read(t *testing.T) (in policy.Input, asked []fieldCase) {
	t.Helper()
	good, _ := r.texts()
	policies, err := policy.Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatalf("%v\n%s", err, good)
	}
	said := make([]fieldCase, len(r.Cases))
	for i, c := range r.Cases {
		c = maps.Clone(c)
		if c["to"] == nil && c["from"] == nil && c["listen"] == nil {
			c["to"] = "203.0.113.9:443"
		}
		c["name"] = fmt.Sprint("case ", i)
		said[i].inside(t, c)
		r.Cases[i] = c
	}
	text, err := json.Marshal(r.Cases)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := policytests.Parse("cases.yaml", fmt.Appendf(nil, fieldWorld, text))
	if err != nil || len(sets[0].Cases) != len(said) {
		t.Fatalf("cases: %v", err)
	}
	keys := map[string]uint64{}
	in = policy.Input{Policies: policies, Node: sets[0].Node, World: sets[0].World}
	for i, c := range sets[0].Cases {
		w, err := json.Marshal(c.Process.Workload)
		if err != nil {
			t.Fatal(err)
		}
		if keys[string(w)] == 0 {
			keys[string(w)] = uint64(len(keys) + 1)
			c.Process.Workload.Key = keys[string(w)]
			in.Workloads = append(in.Workloads, c.Process.Workload)
		}
		c.Process.Workload.Key = keys[string(w)]
		c.Call.ICMPType = said[i].message
		said[i].Case = c
		if said[i].request != nil {
			said[i].request.Call = c.Call
		}
		if said[i].hello != nil {
			said[i].hello.Call = c.Call
		}
	}
	return in, said
}

// inside takes out of a case what is said on its connection.
func (c *fieldCase) inside(t *testing.T, fields map[string]any) {
	t.Helper()
	if number, ok := fields["icmp"].(int); ok {
		message := uint8(number) // of the table
		c.message = &message
	}
	if name, ok := fields["hello"].(string); ok {
		c.hello = &policy.Hello{ServerName: name}
	}
	if said, ok := fields["request"].(map[string]any); ok {
		text := func(name string) string { return fmt.Sprint(said[name]) }
		c.request = &policy.Request{Method: text("method"), Path: text("path"), Host: text("host")}
		headers, _ := said["headers"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			c.request.Headers = append(c.request.Headers, policy.Header{Name: name, Value: fmt.Sprint(headers[name])})
		}
	}
	for _, name := range []string{"icmp", "hello", "request"} {
		delete(fields, name)
	}
}

// reference is what the slow evaluator decides.
func (c *fieldCase) reference(in policy.Input) match.Decision {
	switch {
	case c.request != nil:
		return match.JudgeRequest(in, c.Process, *c.request)
	case c.hello != nil:
		return match.JudgeHello(in, c.Process, *c.hello)
	case c.Query != "":
		return match.JudgeQuery(in, c.Process, policy.Query{Call: c.Call, Name: c.Query})
	}
	return match.Judge(in, c.Process, c.Call)
}

// compiled is what the tables decide.
func (c *fieldCase) compiled(tables *compile.Tables) compile.Decision {
	switch {
	case c.request != nil:
		return tables.JudgeRequest(c.Process, *c.request)
	case c.hello != nil:
		return tables.JudgeHello(c.Process, *c.hello)
	case c.Query != "":
		return tables.JudgeQuery(c.Process, policy.Query{Call: c.Call, Name: c.Query})
	}
	return tables.Judge(c.Process, c.Call)
}

// kernel is what the kernel decides by the tables in force.
func (c *fieldCase) kernel(t *testing.T, o *oracle.Oracle) compile.Decision {
	t.Helper()
	o.Tell(t, c.Process.Workload.Key, c.Call.Canonical().Peer, c.Call.Names)
	switch {
	case c.request != nil:
		text, _ := said(*c.request)
		got, flaw := o.Requests(t, oracle.Connection{Process: c.Process, Call: c.Call, Said: text, Piece: 100})
		if len(got) != 1 || flaw != 0 {
			t.Fatalf("%d requests are judged, flaw %d: %q", len(got), flaw, text)
		}
		return got[0]
	case c.hello != nil:
		return o.AskHello(t, c.Process, *c.hello)
	case c.Query != "":
		return o.AskQuery(t, c.Process, policy.Query{Call: c.Call, Name: c.Query}, false)
	}
	return o.Ask(t, c.Process, c.Call, false)
}

// TestFields holds of every field of the language that it is read, that a wrong one is an error which says where, that it is
// compiled or refused by name, and that it decides as the table says: by the reference and by the tables.
func TestFields(t *testing.T) {
	t.Parallel()
	for _, r := range fieldRows(t) {
		t.Run(r.name(), func(t *testing.T) {
			t.Parallel()
			in, asked := r.read(t)
			_, bad := r.texts()
			if _, err := policy.Parse("f.yaml", []byte(bad)); fmt.Sprint(err) != r.Error {
				t.Errorf("of what is wrong is said:\n%v\nnot:\n%s", err, r.Error)
			}
			refused := ""
			if _, err := (compile.Enforced{}).Compile(in); err != nil {
				refused = err.Error()
			}
			if refused != r.Refused {
				t.Errorf("the compiler refuses:\n%s\nnot:\n%s", refused, r.Refused)
			}
			tables, err := compile.Everything().Compile(in)
			if err != nil {
				t.Fatal(err)
			}
			verdicts := map[string]bool{}
			for _, c := range asked {
				d := c.reference(in)
				verdicts[string(d.Verdict)+d.Rule] = true
				if w := c.Want; d.Verdict != w.Verdict || w.Would != "" && d.Would != w.Would || w.Rule != "" && d.Rule != w.Rule ||
					w.Reason != "" && d.Reason != w.Reason || w.Alert != "" && d.Severity != w.Alert {
					t.Errorf("%s, %s: got %+v, want %+v", c.Who(), c.What(), d, w)
				}
				if diff := gocmp.Diff(expect(d), c.compiled(tables)); diff != "" {
					t.Errorf("%s, %s: (-reference +tables)\n%s", c.Who(), c.What(), diff)
				}
			}
			if len(verdicts) < 2 {
				t.Error("the cases all have one outcome: they show nothing")
			}
		})
	}
}

// TestFieldsInTheKernel holds that the kernel decides all of it as the reference.
func TestFieldsInTheKernel(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	for _, r := range fieldRows(t) {
		in, asked := r.read(t)
		inForce(t, j, in)
		for _, c := range asked {
			if diff := gocmp.Diff(expect(c.reference(in)), c.kernel(t, o)); diff != "" {
				t.Errorf("%s: %s, %s: (-reference +kernel)\n%s", r.name(), c.Who(), c.What(), diff)
			}
		}
	}
}

// TestFieldsAreAllThere holds that the table has every field that the parser knows: it is asked for those of every mapping
// of every document, by a field that it cannot know.
func TestFieldsAreAllThere(t *testing.T) {
	t.Parallel()
	known, shown := map[string]bool{}, map[string]bool{}
	for _, r := range fieldRows(t) {
		good, _ := r.texts()
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(good), &doc); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		eachMapping(doc.Content[0], "", func(m *yaml.Node, of string) {
			for i := 0; i < len(m.Content); i += 2 {
				there[of+m.Content[i].Value] = true
			}
			for _, name := range fieldsOfMapping(t, &doc, m) {
				known[r.Of+": "+of+name] = true
			}
		})
		for _, f := range r.Fields {
			if !there[f] {
				t.Errorf("%s: the document has no %s", r.name(), f)
			}
			shown[r.Of+": "+f] = true
		}
	}
	for _, f := range slices.Sorted(maps.Keys(known)) {
		if !shown[f] {
			t.Errorf("the table has no row for %s", f)
		}
	}
	for _, f := range slices.Sorted(maps.Keys(shown)) {
		if !known[f] {
			t.Errorf("the parser does not know %s", f)
		}
	}
	if len(known) < 150 {
		t.Errorf("the parser knows %d fields: it was not asked well", len(known))
	}
}

// eachMapping visits the mappings below a value. of is the field that a mapping is in, with a dot; "" for a document's. What
// is denied, or one of several, has the fields of what is allowed, or the one.
func eachMapping(n *yaml.Node, of string, visit func(m *yaml.Node, of string)) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			eachMapping(item, of, visit)
		}
	case yaml.MappingNode:
		visit(n, of)
		for i := 0; i < len(n.Content); i += 2 {
			in := n.Content[i].Value + "."
			switch in {
			case "items.":
				in = ""
			case "specs.":
				in = "spec."
			default:
				in = strings.Replace(in, "gressDeny.", "gress.", 1)
			}
			eachMapping(n.Content[i+1], in, visit)
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
	}
}

// word is the name of a field.
var word = regexp.MustCompile(`[A-Za-z0-9]+`)

// fieldsOfMapping asks the parser which fields a mapping can have.
func fieldsOfMapping(t *testing.T, doc, m *yaml.Node) []string {
	t.Helper()
	former := m.Content
	defer func() { m.Content = former }()
	m.Content = append(slices.Clone(former), &yaml.Node{Kind: yaml.ScalarNode, Value: strings.Repeat("z", 40)}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.Parse("f.yaml", text)
	_, names, ok := strings.Cut(fmt.Sprint(err), "unknown field: there are ")
	if !ok {
		return nil // labels, which can have any name
	}
	names, _, _ = strings.Cut(names, "\n")
	return word.FindAllString(strings.ReplaceAll(names, " or ", " "), -1)
}
