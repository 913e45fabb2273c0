// Command schemagen makes the JSON Schema and the CRD manifests of the policy kinds from the sources of
// the package policy: what fields there are and which must be there it reads from the strict parser, types
// and descriptions from the model and its comments. So there is one description of the language, the one
// that is enforced.
//
// It reads Go syntax only and imports nothing of the agent's module. Run it in this folder:
//
//	go run ./schemagen ROOT
//
// It writes ROOT/contrib/schema and ROOT/contrib/crds.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: schemagen ROOT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

// kind is one kind of policy of ours, and what of the model belongs to it alone.
type kind struct {
	name, plural, short string
	cluster             bool     // in no namespace
	without             []string // fields of spec that it does not have
	required            []string // fields of spec that must be there
}

func kinds() []kind {
	return []kind{
		{
			name: "ProcessPolicy", plural: "processpolicies", short: "pp",
			without: []string{"namespaceSelector", "serviceAccounts", "hostSelector"}, required: []string{"podSelector"},
		},
		{
			name: "ClusterProcessPolicy", plural: "clusterprocesspolicies", short: "cpp", cluster: true,
			without: []string{"hostSelector"}, required: []string{"podSelector"},
		},
		{
			name: "HostProcessPolicy", plural: "hostprocesspolicies", short: "hpp", cluster: true,
			without: []string{"podSelector", "namespaceSelector", "serviceAccounts"}, required: []string{"hostSelector"},
		},
	}
}

func run(root string) error {
	m, err := readModel(filepath.Join(root, "policy"))
	if err != nil {
		return err
	}
	g := generator{model: m}
	schema, err := g.document()
	if err != nil {
		return err
	}
	text, err := marshal(schema)
	if err != nil {
		return err
	}
	files := map[string][]byte{"contrib/schema/policy.schema.json": text}
	for _, k := range kinds() {
		manifest, err := g.crd(k)
		if err != nil {
			return err
		}
		files["contrib/crds/"+m.group()+"_"+k.plural+".yaml"] = manifest
	}
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644)); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// marshal writes JSON for people and diffs.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// crd makes the manifest of a kind.
func (g generator) crd(k kind) ([]byte, error) {
	spec, err := g.spec(k)
	if err != nil {
		return nil, err
	}
	checks(spec)
	scope := "Namespaced"
	if k.cluster {
		scope = "Cluster"
	}
	group := g.group()
	version := map[string]any{
		"name": g.version(), "served": true, "storage": true,
		"subresources":             map[string]any{"status": map[string]any{}},
		"additionalPrinterColumns": columns(),
		"schema": map[string]any{"openAPIV3Schema": &schema{
			Type: "object", Description: describe(k), Required: []string{"spec"},
			Properties: map[string]*schema{
				"apiVersion": {Type: "string"}, "kind": {Type: "string"}, "metadata": {Type: "object"}, "spec": spec,
				"status": status(),
			},
		}},
	}
	manifest := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": k.plural + "." + group},
		"spec": map[string]any{
			"group": group, "scope": scope, "versions": []any{version},
			"names": map[string]any{
				"kind": k.name, "listKind": k.name + "List", "plural": k.plural, "singular": strings.ToLower(k.name),
				"shortNames": []any{k.short}, "categories": []any{"sallyport"},
			},
		},
	}
	return writeYAML(manifest)
}

// writeYAML writes a value that has been made for JSON.
func writeYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	var plain any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&plain); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	var out bytes.Buffer
	out.WriteString("# Made by contrib/tools/schemagen from the package policy. Do not edit: make generate.\n")
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	err = errors.Join(encoder.Encode(numbers(plain)), encoder.Close())
	return out.Bytes(), err
}

// numbers turns JSON's numbers into integers; a schema has no others.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	}
	return v
}
