package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// model is what the sources of the package policy say about the language.
type model struct {
	structs map[string]*structType
	docs    map[string]string        // of types
	words   map[string][]word        // constants of string types, in order
	texts   map[string]string        // values of string constants, by name
	ints    map[string]int           // values of integer constants, by name
	methods map[string]*ast.FuncDecl // of the decoder
	parsed  map[string]*parsed       // what the decoder does, by struct
}

// structType is a struct of the model: its fields by their name in a policy, and the struct that it
// embeds; "" if there is none.
type structType struct {
	fields   map[string]fieldType
	embedded string
}

type fieldType struct {
	expr ast.Expr
	doc  string
}

// word is one constant of a string type.
type word struct{ value, doc string }

// parsed is what the decoder demands of the mapping that becomes a struct.
type parsed struct {
	fields   map[string]ast.Expr // what takes the value, by name
	required []string
	fewest   int // fields that must be there
	most     int // 0: any number
}

func readModel(dir string) (*model, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go")) // in the order of their names
	if err != nil {
		return nil, fmt.Errorf("reading the package policy: %w", err)
	}
	m := &model{
		structs: map[string]*structType{}, docs: map[string]string{}, words: map[string][]word{}, texts: map[string]string{},
		ints: map[string]int{}, methods: map[string]*ast.FuncDecl{}, parsed: map[string]*parsed{},
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("reading the package policy: %w", err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				m.declared(d)
			case *ast.FuncDecl:
				if d.Recv != nil && len(d.Recv.List) == 1 && typeName(d.Recv.List[0].Type) == "decoder" {
					m.methods[d.Name.Name] = d
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.reachable("metadata", "spec"))) {
		d := m.methods[name]
		m.readDecoder(d.Body, m.about(d.Type))
	}
	if m.group() == "" || m.parsed["Metadata"] == nil || m.parsed["Spec"] == nil {
		return nil, fmt.Errorf("the package policy is not built as this program expects: no APIVersion in %s, or no decoder for metadata and spec", dir)
	}
	return m, nil
}

// reachable returns the functions of the decoder that some of them call, directly or not: those for
// policies of others are not among them.
func (m *model) reachable(roots ...string) map[string]bool {
	out := map[string]bool{}
	for len(roots) > 0 {
		name := roots[0]
		roots = roots[1:]
		if out[name] || m.methods[name] == nil {
			continue
		}
		out[name] = true
		ast.Inspect(m.methods[name].Body, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && typeName(s.X) == "d" {
				roots = append(roots, s.Sel.Name)
			}
			return true
		})
	}
	return out
}

// group and version are the two parts of apiVersion.
func (m *model) group() string { group, _, _ := strings.Cut(m.texts["APIVersion"], "/"); return group }

func (m *model) version() string {
	_, version, _ := strings.Cut(m.texts["APIVersion"], "/")
	return version
}

// declared takes in types and constants.
func (m *model) declared(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			doc := s.Doc
			if doc == nil {
				doc = d.Doc
			}
			m.docs[s.Name.Name] = doc.Text()
			if t, ok := s.Type.(*ast.StructType); ok && s.Name.IsExported() { // the decoder's own are not of the model
				m.structs[s.Name.Name] = readStruct(t)
			}
		case *ast.ValueSpec:
			m.constant(d.Tok, s)
		}
	}
}

func (m *model) constant(tok token.Token, s *ast.ValueSpec) {
	if tok != token.CONST || len(s.Values) != 1 {
		return
	}
	literal, ok := s.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	switch literal.Kind {
	case token.STRING:
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			return
		}
		m.texts[s.Names[0].Name] = value
		if t := typeName(s.Type); t != "" {
			m.words[t] = append(m.words[t], word{value, strings.TrimSpace(s.Comment.Text())})
		}
	case token.INT:
		if n, err := strconv.Atoi(literal.Value); err == nil {
			m.ints[s.Names[0].Name] = n
		}
	default:
	}
}

// readStruct reads the fields of a struct. One without a tag is named as it is called: its type marshals
// itself.
func readStruct(t *ast.StructType) *structType {
	out := &structType{fields: map[string]fieldType{}}
	for _, f := range t.Fields.List {
		if len(f.Names) == 0 {
			out.embedded = typeName(f.Type)
		}
		for _, ident := range f.Names {
			name := strings.ToLower(ident.Name[:1]) + ident.Name[1:]
			if f.Tag != nil {
				tag, _ := strconv.Unquote(f.Tag.Value)
				name, _, _ = strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			}
			doc := f.Doc.Text()
			if doc == "" {
				doc = f.Comment.Text()
			}
			if ident.IsExported() && name != "-" {
				out.fields[name] = fieldType{f.Type, strings.TrimSpace(doc)}
			}
		}
	}
	return out
}

// typeName returns the name of a type, of what it points to or of its items; "" for others.
func typeName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.ArrayType:
		return typeName(t.Elt)
	case *ast.SelectorExpr:
		return typeName(t.X) + "." + t.Sel.Name
	}
	return ""
}

// about returns the struct that a function of the decoder fills: its result, or else what its parameters
// point to; "" if there is none.
func (m *model) about(t *ast.FuncType) string {
	if t.Results != nil && len(t.Results.List) > 0 {
		if name := typeName(t.Results.List[0].Type); m.structs[name] != nil {
			return name
		}
	}
	for _, p := range t.Params.List {
		if star, ok := p.Type.(*ast.StarExpr); ok && m.structs[typeName(star)] != nil {
			return typeName(star)
		}
	}
	return ""
}

// readDecoder gathers what a function of the decoder, or one inside it, demands of a struct's mapping.
func (m *model) readDecoder(body ast.Node, of string) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			if inner := m.about(n.Type); inner != "" && inner != of {
				m.readDecoder(n.Body, inner)
				return false
			}
		case *ast.IfStmt:
			if dependsOnKind(n.Cond) { // which kind demands what is in kinds()
				return false
			}
		case *ast.CompositeLit:
			name, parse := decoderField(n)
			if parse == nil || of == "" {
				return true
			}
			m.demands(of).fields[name] = parse
			if inner := typeName(m.structs[of].fields[name].expr); m.structs[inner] != nil {
				m.readDecoder(parse, inner) // a mapping in a mapping, without a function of its own
				return false
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "require" && of != "" {
				if name, ok := text(n.Args[2]); ok {
					m.demands(of).required = append(m.demands(of).required, name)
				}
			}
		case *ast.BinaryExpr:
			if of != "" && isPresentCount(n.X) {
				m.counts(m.demands(of), n)
			}
		}
		return true
	})
}

func (m *model) demands(of string) *parsed {
	if m.parsed[of] == nil {
		m.parsed[of] = &parsed{fields: map[string]ast.Expr{}}
	}
	return m.parsed[of]
}

// counts reads how many fields must be there from what is refused: len(present) == 0, != 1 or > 1.
func (m *model) counts(p *parsed, n *ast.BinaryExpr) {
	literal, ok := n.Y.(*ast.BasicLit)
	switch {
	case !ok:
	case n.Op == token.EQL && literal.Value == "0":
		p.fewest = 1
	case n.Op == token.NEQ && literal.Value == "1":
		p.fewest, p.most = 1, 1
	case n.Op == token.GTR && literal.Value == "1":
		p.most = 1
	}
}

func isPresentCount(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok || typeName(call.Fun) != "len" || len(call.Args) != 1 {
		return false
	}
	return typeName(call.Args[0]) == "present"
}

func dependsOnKind(cond ast.Expr) bool {
	found := false
	ast.Inspect(cond, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Name == "kind" {
			found = true
		}
		return !found
	})
	return found
}

// decoderField reads {name: "x", parse: f}; parse is nil for what is no such literal.
func decoderField(c *ast.CompositeLit) (name string, parse ast.Expr) {
	for _, e := range c.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return "", nil
		}
		switch typeName(kv.Key) {
		case "name":
			name, _ = text(kv.Value)
		case "parse":
			parse = kv.Value
		}
	}
	if name == "" {
		return "", nil
	}
	return name, parse
}

func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}
