package schema

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sallyport/sallyport/policy"
)

// crds reads the manifests: the schema of each kind.
func crds(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob(root + "/contrib/crds/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	out := map[string]map[string]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range documents(t, data) {
			spec := at[map[string]any](t, doc, "spec")
			names := at[map[string]any](t, spec, "names")
			version := at[[]any](t, spec, "versions")[0]
			group, plural := at[string](t, spec, "group"), at[string](t, names, "plural")
			if name := at[string](t, at[map[string]any](t, doc, "metadata"), "name"); name != plural+"."+group {
				t.Errorf("%s: the manifest is named %s", file, name)
			}
			if got := group + "/" + at[string](t, version, "name"); got != policy.APIVersion {
				t.Errorf("%s: is of %s", file, got)
			}
			out[at[string](t, names, "kind")] = at[map[string]any](t, at[map[string]any](t, version, "schema"), "openAPIV3Schema")
		}
	}
	return out
}

// at returns the value of a field.
func at[T any](t *testing.T, v any, name string) T {
	t.Helper()
	object, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%v is no mapping", v)
	}
	out, ok := object[name].(T)
	if !ok {
		t.Fatalf("%s is %v", name, object[name])
	}
	return out
}

// TestCRDsAreStructural demands what Kubernetes demands of a schema: every value has a type, nothing is
// referred to, and no mapping with known fields says something about others.
func TestCRDsAreStructural(t *testing.T) {
	t.Parallel()
	var check func(path string, s map[string]any)
	check = func(path string, s map[string]any) {
		if s["type"] == nil && s["x-kubernetes-int-or-string"] != true {
			t.Errorf("%s has no type", path)
		}
		for _, name := range []string{"$ref", "$defs", "const", "if", "allOf", "oneOf"} {
			if s[name] != nil {
				t.Errorf("%s has %s", path, name)
			}
		}
		if s["properties"] != nil && s["additionalProperties"] != nil {
			t.Errorf("%s has properties and additionalProperties", path)
		}
		if s["type"] == "array" && s["items"] == nil {
			t.Errorf("%s has no items", path)
		}
		for _, name := range []string{"items", "additionalProperties"} {
			if inner, ok := s[name].(map[string]any); ok {
				check(path+"."+name, inner)
			}
		}
		if properties, ok := s["properties"].(map[string]any); ok {
			for name := range properties {
				check(path+"."+name, at[map[string]any](t, properties, name))
			}
		}
	}
	for kind, s := range crds(t) {
		check(kind, s)
	}
}

// TestCRDsTakeWhatTheParserTakes validates examples, and every change that the JSON Schema is asked about:
// an API server may take more than the parser, which reads what it has taken, and never less.
func TestCRDsTakeWhatTheParserTakes(t *testing.T) {
	t.Parallel()
	schemas := map[string]*jsonschema.Schema{}
	for kind, s := range crds(t) {
		schemas[kind] = compile(t, s)
	}
	refused := 0
	for file, docs := range examples(t) {
		for _, doc := range docs {
			if s := schemas[at[string](t, doc, "kind")]; s != nil && s.Validate(doc) != nil {
				t.Errorf("%s: %v", file, s.Validate(doc))
			}
		}
	}
	for _, doc := range documents(t, []byte(complete)) {
		s := schemas[at[string](t, doc, "kind")]
		if s == nil {
			continue // a list
		}
		if err := s.Validate(doc); err != nil {
			t.Fatal(err)
		}
		mutate(doc, func(change string) {
			if err := s.Validate(doc); err != nil {
				refused++
				if parse(t, doc) == nil {
					t.Errorf("%s: the parser takes what the manifest refuses: %v", change, err)
				}
			}
		})
	}
	if refused < 500 {
		t.Errorf("only %d changes were refused", refused)
	}
}
