package main

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// schema is the part of JSON Schema that is used, in the order in which it is written.
type schema struct {
	Schema        string             `json:"$schema,omitempty"`
	ID            string             `json:"$id,omitempty"`
	Title         string             `json:"title,omitempty"`
	Description   string             `json:"description,omitempty"`
	Ref           string             `json:"$ref,omitempty"`
	Type          string             `json:"type,omitempty"`
	Const         string             `json:"const,omitempty"`
	Enum          []string           `json:"enum,omitempty"`
	Pattern       string             `json:"pattern,omitempty"`
	Format        string             `json:"format,omitempty"`
	MinLength     int                `json:"minLength,omitempty"`
	MaxLength     int                `json:"maxLength,omitempty"`
	Minimum       *int64             `json:"minimum,omitempty"`
	Maximum       *int64             `json:"maximum,omitempty"`
	IntOrString   bool               `json:"x-kubernetes-int-or-string,omitempty"`
	ListType      string             `json:"x-kubernetes-list-type,omitempty"`
	ListMapKeys   []string           `json:"x-kubernetes-list-map-keys,omitempty"`
	Validations   []validation       `json:"x-kubernetes-validations,omitempty"`
	AnyOf         []*schema          `json:"anyOf,omitempty"`
	AllOf         []*schema          `json:"allOf,omitempty"`
	If            *schema            `json:"if,omitempty"`
	Then          *schema            `json:"then,omitempty"`
	Items         *schema            `json:"items,omitempty"`
	MinItems      int                `json:"minItems,omitempty"`
	MaxItems      int                `json:"maxItems,omitempty"`
	Required      []string           `json:"required,omitempty"`
	Properties    map[string]*schema `json:"properties,omitempty"`
	MinProperties int                `json:"minProperties,omitempty"`
	MaxProperties int                `json:"maxProperties,omitempty"`
	Additional    any                `json:"additionalProperties,omitempty"` // false, or a schema
	Defs          map[string]*schema `json:"$defs,omitempty"`
}

// validation is a rule that the API server checks, in CEL.
type validation struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

type generator struct {
	*model
	defs map[string]*schema // of structs, for a document that refers to them; nil: they are written out
}

// document makes the JSON Schema of all kinds.
func (g generator) document() (*schema, error) {
	out := &schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", ID: "https://" + g.group() + "/schema/policy.schema.json",
		Title:       "Policies of Sallyport",
		Description: "Made by contrib/tools/schemagen from the package policy. Do not edit: make generate.",
		Type:        "object", Required: []string{"apiVersion", "kind"}, Properties: map[string]*schema{
			"apiVersion": {Const: g.texts["APIVersion"]}, "kind": {},
		},
		Defs: map[string]*schema{},
	}
	g.defs = out.Defs
	for _, k := range kinds() {
		one, err := g.policy(k)
		if err != nil {
			return nil, err
		}
		out.Defs[k.name] = one
		list := k.name + "List"
		out.Defs[list] = &schema{
			Description: "A list of " + k.name + " documents, as kubectl writes it.", Type: "object", Additional: false, Required: []string{"items"},
			Properties: map[string]*schema{
				"apiVersion": {}, "kind": {}, "metadata": {}, "items": {Type: "array", Items: &schema{Ref: "#/$defs/" + k.name}},
			},
		}
		for _, name := range []string{k.name, list} {
			out.Properties["kind"].Enum = append(out.Properties["kind"].Enum, name)
			out.AllOf = append(out.AllOf, &schema{
				If:   &schema{Required: []string{"kind"}, Properties: map[string]*schema{"kind": {Const: name}}},
				Then: &schema{Ref: "#/$defs/" + name},
			})
		}
	}
	return out, nil
}

// policy makes the schema of one kind.
func (g generator) policy(k kind) (*schema, error) {
	spec, err := g.spec(k)
	if err != nil {
		return nil, err
	}
	metadata, err := g.object("Metadata")
	if err != nil {
		return nil, err
	}
	if k.cluster {
		delete(metadata.Properties, "namespace")
	}
	metadata.Description = plainText(g.docs["Metadata"])
	return &schema{
		Description: describe(k), Type: "object", Additional: false, Required: []string{"apiVersion", "kind", "metadata", "spec"},
		Properties: map[string]*schema{
			"apiVersion": {Const: g.texts["APIVersion"]}, "kind": {Const: k.name}, "metadata": metadata, "spec": spec,
		},
	}, nil
}

// describe says what a kind is.
func describe(k kind) string {
	return map[string]string{
		"ProcessPolicy":        "Says what the processes in the pods of its namespace may reach, and who may reach them.",
		"ClusterProcessPolicy": "Says what the processes in pods of every namespace may reach, and who may reach them.",
		"HostProcessPolicy":    "Says what the node's own processes may reach, and who may reach them.",
	}[k.name]
}

// spec makes the schema of a kind's spec.
func (g generator) spec(k kind) (*schema, error) {
	s, err := g.object("Spec")
	if err != nil {
		return nil, err
	}
	for _, name := range k.without {
		delete(s.Properties, name)
	}
	s.Required = append(slices.Clone(k.required), s.Required...)
	slices.Sort(s.Required)
	s.Description = plainText(g.docs["Spec"])
	return s, nil
}

// object makes the schema of the mapping that becomes a struct: the fields that the decoder takes, with
// the types that the model gives them. In the JSON Schema it refuses unknown fields; Kubernetes has its own
// way for that, and its schemas must be open.
func (g generator) object(name string) (*schema, error) {
	p := g.parsed[name]
	if p == nil {
		return nil, fmt.Errorf("nothing in the decoder makes a %s", name)
	}
	s := &schema{Type: "object", Properties: map[string]*schema{}, MinProperties: p.fewest, MaxProperties: p.most}
	if g.defs != nil {
		s.Additional = false
	}
	s.Required = slices.Clone(p.required)
	slices.Sort(s.Required)
	for field, parse := range p.fields {
		f, ok := g.structs[name].fields[field]
		if !ok {
			return nil, fmt.Errorf("the decoder reads %s of a %s, and the model has no such field", field, name)
		}
		one, err := g.value(f.expr)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", name, field, err)
		}
		g.refine(one, name+"."+field, parse)
		if doc := plainText(f.doc); doc != "" {
			one.Description = doc
		}
		s.Properties[field] = one
	}
	return s, nil
}

// value makes the schema of a Go type.
func (g generator) value(e ast.Expr) (*schema, error) {
	switch t := e.(type) {
	case *ast.ArrayType:
		items, err := g.value(t.Elt)
		return &schema{Type: "array", Items: items}, err
	case *ast.StarExpr:
		return g.value(t.X)
	case *ast.MapType:
		return &schema{Type: "object", Additional: &schema{Type: "string", MaxLength: g.ints["maxLabelValueLength"]}}, nil
	}
	name := typeName(e)
	switch name {
	case "string":
		return &schema{Type: "string"}, nil
	case "bool":
		return &schema{Type: "boolean"}, nil
	case "uint8", "uint16", "uint32":
		return integer(0, name), nil
	case "netip.Prefix":
		return &schema{Type: "string", Pattern: `^[0-9A-Fa-f:.]+(/(0|[1-9][0-9]{0,2}))?$`}, nil
	case "Glob":
		return &schema{Type: "string", MinLength: 1, MaxLength: g.ints["MaxGlobLength"]}, nil
	case "Regex":
		return &schema{Type: "string", MinLength: 1, MaxLength: g.ints["MaxRegexLength"]}, nil
	case "NamePattern":
		return &schema{Type: "string", MinLength: 1, MaxLength: g.ints["MaxNameLength"] + 1, Pattern: `^[A-Za-z0-9_.*-]+$`}, nil
	}
	if words := g.words[name]; words != nil {
		s := &schema{Type: "string", Description: plainText(g.docs[name])}
		for _, w := range words {
			s.Enum = append(s.Enum, w.value)
			if w.doc != "" {
				s.Description += " " + w.value + ": " + w.doc + "."
			}
		}
		return s, nil
	}
	if t := g.structs[name]; t != nil {
		if g.parsed[name] == nil && t.embedded != "" {
			name = t.embedded
		}
		return g.definition(name)
	}
	return nil, fmt.Errorf("the type %s has no schema", name)
}

// definition makes the schema of a struct, or refers to it.
func (g generator) definition(name string) (*schema, error) {
	if g.defs != nil && g.defs[name] != nil {
		return &schema{Ref: "#/$defs/" + name}, nil
	}
	if g.defs != nil {
		g.defs[name] = &schema{} // for a struct that holds itself
	}
	s, err := g.object(name)
	if err != nil {
		return nil, err
	}
	s.Description = plainText(g.docs[name])
	if g.defs == nil {
		return s, nil
	}
	g.defs[name] = s
	return &schema{Ref: "#/$defs/" + name}, nil
}

// integer is a number that fits a Go type.
func integer(least int64, name string) *schema {
	bits, _ := strconv.Atoi(strings.TrimPrefix(name, "uint"))
	most := int64(1)<<bits - 1
	return &schema{Type: "integer", Minimum: &least, Maximum: &most}
}

// refine narrows a schema by what the decoder does with the value.
func (g generator) refine(s *schema, field string, parse ast.Expr) {
	if n, ok := g.numeral(field); ok {
		*s = *n
		return
	}
	for _, body := range g.follow(parse) {
		ast.Inspect(body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				if fun.Name == "some" && s.Type == "array" {
					s.MinItems = 1
				}
				if fun.Name == "enum" {
					g.narrow(s, call.Args[2])
				}
			case *ast.SelectorExpr:
				if fun.Sel.Name == "name" && len(call.Args) == 4 {
					g.named(s, call.Args)
				}
			}
			return true
		})
	}
}

// numeral returns the schema of what is a number or a text, as in Kubernetes and Cilium: ports, quoted or
// not or by their name, and types of ICMP messages.
func (g generator) numeral(field string) (*schema, bool) {
	const quoted, byName = `[1-9][0-9]{0,4}`, `[a-z0-9-]*[a-z][a-z0-9-]*`
	number, pattern := integer(1, "uint16"), "^"+quoted+"$"
	switch field {
	case "Port.port":
		if g.structs["Port"].fields["name"].expr != nil {
			pattern = "^(" + quoted + "|" + byName + ")$"
		}
	case "Port.endPort":
	case "ICMPField.type":
		number, pattern = integer(0, "uint8"), `^[A-Za-z0-9]+$`
	default:
		return nil, false
	}
	return &schema{
		IntOrString: g.defs == nil, AnyOf: []*schema{{Type: "integer"}, {Type: "string"}},
		Minimum: number.Minimum, Maximum: number.Maximum, Pattern: pattern,
	}, true
}

// follow returns what takes a value: the expression itself, and the functions of the decoder that it
// calls for values that have no struct of their own.
func (g generator) follow(parse ast.Expr) []ast.Node {
	out := []ast.Node{parse}
	ast.Inspect(parse, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok || typeName(s.X) != "d" {
			return true
		}
		method := g.methods[s.Sel.Name]
		if method == nil || method.Type.Results == nil {
			return true
		}
		result := method.Type.Results.List[0].Type
		if _, list := result.(*ast.ArrayType); list {
			// What a list's items are made of is the items' own affair.
			out = append(out, withoutFunctions(method.Body))
		} else if g.words[typeName(result)] != nil {
			out = append(out, method.Body)
		}
		return true
	})
	return out
}

// withoutFunctions returns the statements of a body whose calls are made on the value itself, as calls
// without their arguments.
func withoutFunctions(body *ast.BlockStmt) ast.Node {
	out := &ast.BlockStmt{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			out.List = append(out.List, &ast.ExprStmt{X: &ast.CallExpr{Fun: n.Fun}})
		}
		return true
	})
	return out
}

// narrow leaves the words that the decoder takes: a literal list of constants, or else all of the type.
func (g generator) narrow(s *schema, words ast.Expr) {
	list, ok := words.(*ast.CompositeLit)
	if !ok {
		return
	}
	var values []string
	for _, e := range list.Elts {
		if v, ok := g.texts[typeName(e)]; ok {
			values = append(values, v)
		}
	}
	if s.Type == "array" {
		s = s.Items
	}
	if len(values) > 0 {
		s.Enum = values
		s.Description = ""
	}
}

// named takes in what a name may be: d.name(v, longest, inner bytes, upper case).
func (g generator) named(s *schema, args []ast.Expr) {
	inner, ok := text(args[2])
	if !ok {
		return
	}
	if s.Type == "array" {
		s = s.Items
	}
	letters := "a-z0-9"
	if typeName(args[3]) == "true" {
		letters = "A-Za-z0-9"
	}
	// The dash comes last, where it stands for itself.
	if strings.Contains(inner, "-") {
		inner = strings.ReplaceAll(inner, "-", "") + "-"
	}
	s.Pattern = "^[" + letters + "]([" + letters + inner + "]*[" + letters + "])?$"
	s.MaxLength = g.number(args[1])
}

// number returns the value of a constant, or of a sum of some.
func (g generator) number(e ast.Expr) int {
	switch e := e.(type) {
	case *ast.BasicLit:
		n, _ := strconv.Atoi(e.Value)
		return n
	case *ast.Ident:
		return g.ints[e.Name]
	case *ast.BinaryExpr:
		return g.number(e.X) + g.number(e.Y)
	}
	return 0
}

// plainText makes one paragraph of a comment.
func plainText(doc string) string { return strings.Join(strings.Fields(doc), " ") }
