package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds on what one file can cost: policies come from people, but also from templates, from
// pipelines and from whoever can write into the directory.
const (
	MaxFileSize = 4 << 20 // bytes
	maxNodes    = 1 << 20 // YAML nodes visited, aliases counted each time they are followed
	maxErrors   = 100     // reported for one file
)

// decoder turns the YAML nodes of one file into the model and gathers everything that is wrong.
// Its methods go on after an error, so that all errors of a file are told at once; nothing of a
// file with an error is used (fails closed: the caller keeps what it had).
type decoder struct {
	file     string
	nodes    int
	errs     Errors
	sources  bool // keys of labels can have a source before them: k8s:app
	zeroPort bool // 0 is every port
	foreign  bool // a document that others define
	full     bool // a bound was reached: errs is all that is told, and nothing more is visited
}

// value is one YAML value and where it stands.
type value struct {
	node *yaml.Node
	path string
}

// field is one field that a mapping can have: parse takes its value, or reason says why it cannot
// be used.
type field struct {
	name   string
	parse  func(value)
	reason string
}

// later lists fields that the full language has and this version does not.
func later(names ...string) []field {
	return refused("is not supported yet", names...)
}

// refused lists fields that are known and wrong here.
func refused(reason string, names ...string) []field {
	fields := make([]field, len(names))
	for i, name := range names {
		fields[i] = field{name: name, reason: reason}
	}
	return fields
}

// fail reports an error at a value.
func (d *decoder) fail(v value, hint, format string, args ...any) {
	if d.full {
		return
	}
	e := &Error{File: d.file, Field: v.path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if v.node != nil {
		e.Line, e.Column = v.node.Line, v.node.Column
	}
	d.errs = append(d.errs, e)
	d.full = len(d.errs) == maxErrors
}

// resolve follows an alias and counts the visit, so that a few lines of nested aliases cannot
// make a terabyte.
func (d *decoder) resolve(v value) value {
	d.nodes++
	if d.nodes > maxNodes {
		d.fail(v, "split it", "the file has more than %d values, aliases followed", maxNodes)
		d.full = true
	}
	if v.node.Kind == yaml.AliasNode {
		v.node = v.node.Alias
	}
	return v
}

// kind names what a value is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!str":
			return "a string"
		case "!!int", "!!float":
			return "a number"
		case "!!bool":
			return "a boolean"
		case "!!null":
			return "empty"
		}
		return "of the YAML type " + quote(n.ShortTag())
	case yaml.DocumentNode, yaml.AliasNode: // neither is left where a value is looked at
	}
	return "no value"
}

// object visits the fields of a mapping. It returns the names that are there; ok is false where
// the value is no mapping.
func (d *decoder) object(v value, fields []field) (present map[string]value, ok bool) {
	v = d.resolve(v)
	if v.node.Kind != yaml.MappingNode || v.node.ShortTag() != "!!map" {
		d.fail(v, "", "is %s, not a mapping", kind(v.node))
		return nil, false
	}
	if d.full {
		return nil, false
	}
	present = make(map[string]value, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := value{v.node.Content[i], v.path}
		name, ok := d.key(key, present)
		if !ok {
			continue
		}
		at := value{v.node.Content[i+1], join(v.path, name)}
		here := value{key.node, at.path}
		present[name] = here
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		switch {
		case f < 0:
			d.unknown(here, name, fields)
		case fields[f].parse == nil:
			d.fail(here, "", "%s", fields[f].reason)
		default:
			fields[f].parse(at)
		}
	}
	return present, true
}

// key reads the name of a field and refuses what is no name, is there twice, or merges.
func (d *decoder) key(key value, present map[string]value) (name string, ok bool) {
	d.nodes++
	if key.node.Kind == yaml.ScalarNode && key.node.ShortTag() == "!!merge" {
		d.fail(key, "write the fields out", "merge keys (<<) are not supported")
		return "", false
	}
	if key.node.Kind != yaml.ScalarNode || key.node.ShortTag() != "!!str" {
		d.fail(key, "", "the name of a field is %s, not a string", kind(key.node))
		return "", false
	}
	name = key.node.Value
	if first, twice := present[name]; twice {
		d.fail(value{key.node, join(key.path, name)}, "", "is there twice, first in line %d", first.node.Line)
		return "", false
	}
	return name, true
}

// unknown reports a field that does not exist, with the one that was probably meant.
func (d *decoder) unknown(at value, name string, fields []field) {
	var names []string
	for _, f := range fields {
		if f.parse != nil {
			names = append(names, f.name)
		}
	}
	hint := "there are " + list(names)
	if meant, ok := closest(name, names); ok {
		hint = "did you mean " + meant + "?"
	}
	d.fail(at, hint, "unknown field")
}

// require reports a field that must be there.
func (d *decoder) require(v value, present map[string]value, name, hint string) {
	if _, ok := present[name]; !ok {
		d.fail(value{d.resolve(v).node, join(v.path, name)}, hint, "is missing")
	}
}

// join appends a field's name to a path.
func join(path, name string) string {
	if len(name) > maxQuoted || strings.ContainsAny(name, ".[]:\"' ") || plain(name) != name {
		return path + "[" + quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// items returns the items of a list; ok is false where the value is none. The result is never nil
// where ok is true.
func (d *decoder) items(v value) (out []value, ok bool) {
	v = d.resolve(v)
	if v.node.Kind != yaml.SequenceNode || v.node.ShortTag() != "!!seq" {
		hint := "write [] for an empty list, or leave the field out"
		if v.node.ShortTag() != "!!null" {
			hint = "a list of one is written [x], or - x on a line of its own"
		}
		d.fail(v, hint, "is %s, not a list", kind(v.node))
		return nil, false
	}
	if d.full {
		return nil, false
	}
	out = make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		out[i] = value{n, v.path + "[" + strconv.Itoa(i) + "]"}
	}
	return out, true
}

// each decodes the items of a list. What it returns is nil only where the value is no list.
func each[T any](d *decoder, v value, item func(value) T) []T {
	in, ok := d.items(v)
	if !ok {
		return nil
	}
	out := make([]T, len(in))
	for i, it := range in {
		out[i] = item(it)
	}
	return out
}

// some decodes a list that must not be empty: why says what an empty one would mean.
func some[T any](d *decoder, v value, why string, item func(value) T) []T {
	out := each(d, v, item)
	if out != nil && len(out) == 0 {
		d.fail(v, "leave the field out, or fill it", "is empty: %s", why)
	}
	return out
}

// text decodes a string; ok is false where the value is none.
func (d *decoder) text(v value) (s string, ok bool) {
	v = d.resolve(v)
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!str" {
		hint := ""
		if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() != "!!null" {
			hint = "put it into quotes"
		}
		d.fail(v, hint, "is %s, not a string", kind(v.node))
		return "", false
	}
	return v.node.Value, true
}

// boolean decodes true or false; nil where the value is neither.
func (d *decoder) boolean(v value) *bool {
	v = d.resolve(v)
	var b bool
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" || v.node.Decode(&b) != nil {
		d.fail(v, "true or false", "is %s, not a boolean", kind(v.node))
		return nil
	}
	return &b
}

// labels decodes a mapping of strings.
func (d *decoder) labels(v value) map[string]string {
	v = d.resolve(v)
	if v.node.Kind != yaml.MappingNode || v.node.ShortTag() != "!!map" {
		d.fail(v, "", "is %s, not a mapping", kind(v.node))
		return nil
	}
	out := make(map[string]string, len(v.node.Content)/2)
	present := make(map[string]value, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := value{v.node.Content[i], v.path}
		name, ok := d.key(key, present)
		if !ok {
			continue
		}
		present[name] = key
		if d.sources {
			name = d.sourceKey(value{key.node, join(v.path, name)}, name)
		} else {
			d.labelKey(value{key.node, join(v.path, name)}, name)
		}
		if _, twice := out[name]; twice {
			d.fail(value{key.node, join(v.path, name)}, "", "is there twice, with another source")
		}
		at := value{v.node.Content[i+1], join(v.path, name)}
		if s, ok := d.text(at); ok {
			if len(s) > maxLabelValueLength {
				d.fail(at, "", "is longer than %d bytes", maxLabelValueLength)
			}
			out[name] = s
		}
	}
	return out
}

// enum decodes one of a set of words. not maps words that the full language has, or that people
// try, to what is to be said about them.
func enum[T ~string](d *decoder, v value, words []T, not map[string]string) T {
	s, ok := d.text(v)
	if !ok {
		return ""
	}
	if slices.Contains(words, T(s)) {
		return T(s)
	}
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	if why, known := not[s]; known {
		d.fail(v, "there are "+list(names), "%s %s", quote(s), why)
		return ""
	}
	hint := ""
	if meant, ok := closest(s, names); ok {
		hint = "did you mean " + meant + "?"
	}
	d.fail(v, hint, "%s is none of %s", quote(s), list(names))
	return ""
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
