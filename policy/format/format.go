// Package format owns how policy files look: the order of fields, indentation, quotes and what stands
// on one line. It keeps comments and never changes what a file means.
//
// It is pure: it imports policy and policy/cases, and opens no file.
package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
)

const (
	indent    = 2
	maxPasses = 4 // until formatting what was formatted changes nothing
)

// Errors of files that are right, and are left as they are.
var (
	ErrComment  = errors.New("a comment stands where it would be lost: move it to a line before a field")
	ErrMeaning  = errors.New("the file would not mean the same any more")
	ErrUnsteady = errors.New("formatting it does not come to an end")
)

// Format returns a file of policies, or of cases for `sallyport policy test`, in its one form: YAML,
// or JSON where it is JSON. A file that cannot be parsed is an error, as Parse tells it. Formatting what
// was formatted changes nothing; the result means what the file meant, which is looked at each time.
func Format(name string, data []byte) ([]byte, error) {
	before, err := meaning(name, data)
	if err != nil {
		return nil, err
	}
	once := formatYAML
	if json.Valid(data) {
		once = formatJSON
	}
	out := data
	for range maxPasses {
		next, err := once(out)
		if err != nil {
			return nil, fmt.Errorf("formatting %s: %w", name, err)
		}
		if bytes.Equal(next, out) {
			return out, steady(name, data, out, before)
		}
		out = next
	}
	return nil, fmt.Errorf("formatting %s: %w", name, ErrUnsteady)
}

// steady refuses a result that means something else than the file or lacks one of its comments.
func steady(name string, before, out []byte, want any) error {
	got, err := meaning(name, out)
	if err != nil || !reflect.DeepEqual(want, got) {
		return fmt.Errorf("formatting %s: %w", name, ErrMeaning)
	}
	for line := range strings.Lines(string(before)) {
		if comment := strings.TrimSpace(line); strings.HasPrefix(comment, "#") && !bytes.Contains(out, []byte(comment)) {
			return fmt.Errorf("formatting %s: %s: %w", name, policy.Quote(comment), ErrComment)
		}
	}
	return nil
}

// meaning parses a file and returns what it says, without where in the file it says it.
func meaning(name string, data []byte) (any, error) {
	if isCases(data) {
		sets, err := cases.Parse(name, data)
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the file
		}
		for i := range sets {
			sets[i].Line = 0
			for j := range sets[i].Cases {
				sets[i].Cases[j].Line = 0
			}
		}
		return sets, nil
	}
	policies, err := policy.Parse(name, data)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	for _, p := range policies {
		p.Line = 0
		for i := range p.Spec.Rules {
			p.Spec.Rules[i].Line = 0
		}
	}
	return policies, nil
}

// isCases says whether the first document of a file is one of test cases. What is no YAML is taken for
// policies, whose parser says what is wrong.
func isCases(data []byte) bool {
	if len(data) > policy.MaxFileSize {
		return false
	}
	stream := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := stream.Decode(&doc); err != nil {
			return false
		}
		if len(doc.Content) == 1 && doc.Content[0].Kind == yaml.MappingNode {
			return kindOf(doc.Content[0]) == cases.Kind
		}
	}
}

// kindOf returns what a document says that it is; "" if it does not.
func kindOf(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "kind" {
			return n.Content[i+1].Value
		}
	}
	return ""
}

// formatYAML formats once.
func formatYAML(data []byte) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(indent)
	encoder.CompactSeqIndent()
	stream := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := stream.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading YAML: %w", err)
		}
		if len(doc.Content) != 1 || doc.Content[0].ShortTag() == "!!null" && comments(&doc) == 0 {
			continue
		}
		arrange(&doc)
		if err := encoder.Encode(&doc); err != nil {
			return nil, fmt.Errorf("writing YAML: %w", err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return out.Bytes(), nil
}

// formatJSON formats once what is JSON, which has no comments and one document.
func formatJSON(data []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	arrange(&doc)
	var raw bytes.Buffer
	if err := appendJSON(&raw, doc.Content[0]); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw.Bytes(), "", strings.Repeat(" ", indent)); err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// appendJSON writes a node whose fields have been put in order.
func appendJSON(out *bytes.Buffer, n *yaml.Node) error {
	brackets := map[yaml.Kind]string{yaml.MappingNode: "{}", yaml.SequenceNode: "[]"}[n.Kind]
	if brackets == "" {
		var v any = n.Value
		if n.ShortTag() != "!!str" {
			if err := n.Decode(&v); err != nil {
				return fmt.Errorf("reading JSON: %w", err)
			}
		}
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		return nil
	}
	out.WriteByte(brackets[0])
	for i, child := range n.Content {
		switch {
		case i == 0:
		case n.Kind == yaml.MappingNode && i%2 == 1:
			out.WriteByte(':')
		default:
			out.WriteByte(',')
		}
		if err := appendJSON(out, child); err != nil {
			return err
		}
	}
	out.WriteByte(brackets[1])
	return nil
}
