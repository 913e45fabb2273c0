package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxFileSize bounds what is read as a configuration, in bytes.
const maxFileSize = 1 << 20

// fileCheck finds what viper would let pass: keys that do not exist, keys in another case, and
// values of another type that happen to convert.
type fileCheck struct {
	file  string
	kinds map[string]string // key → kind
	lines map[string]int    // key → line, of the keys that the file sets
	errs  []error
}

// checkFile checks the text of a file and returns the line of each key that it sets.
func checkFile(file string, data []byte) (map[string]int, error) {
	c := &fileCheck{file: file, kinds: map[string]string{}, lines: map[string]int{}}
	for _, l := range leaves(Default()) {
		c.kinds[l.key] = l.kind
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, &Error{Source: file, Message: "is no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if doc.Kind == 0 { // nothing but comments
		return c.lines, nil
	}
	c.mapping(doc.Content[0], "")
	return c.lines, errors.Join(c.errs...)
}

func (c *fileCheck) fail(n *yaml.Node, key, hint, format string, args ...any) {
	c.errs = append(c.errs, &Error{
		Source: fmt.Sprintf("%s:%d", c.file, n.Line), Key: key, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// mapping checks the keys of a mapping at a key of the configuration.
func (c *fileCheck) mapping(n *yaml.Node, at string) {
	if n.Kind != yaml.MappingNode {
		hint := ""
		if names := c.children(at); len(names) > 0 {
			hint = "it holds " + list(names)
		}
		c.fail(n, at, hint, "is no mapping of keys")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str" || strings.Contains(name.Value, ".") {
			c.fail(name, at, "write one word for each level", "%s is no name of a key", quote(name.Value))
			continue
		}
		if line, twice := seen[name.Value]; twice {
			c.fail(name, join(at, name.Value), "", "is there twice, first in line %d", line)
			continue
		}
		seen[name.Value] = name.Line
		c.entry(name, value, at)
	}
}

// entry checks one key and its value.
func (c *fileCheck) entry(name, value *yaml.Node, at string) {
	key := join(at, name.Value)
	if kind, ok := c.kinds[key]; ok {
		c.lines[key] = name.Line
		c.value(value, key, kind)
		return
	}
	if len(c.children(key)) > 0 {
		c.mapping(value, key)
		return
	}
	names := c.children(at)
	hint := "there are " + list(names)
	if meant := closest(name.Value, names); meant != "" {
		hint = "did you mean " + join(at, meant) + "?"
	}
	c.fail(name, join(at, shown(name.Value)), hint, "unknown key")
}

// value checks that a value has the type of its key.
func (c *fileCheck) value(n *yaml.Node, key, kind string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	scalar := n.Kind == yaml.ScalarNode
	ok := false
	switch kind {
	case kindText:
		ok = scalar && n.ShortTag() == "!!str"
	case kindNumber:
		ok = scalar && n.ShortTag() == "!!int"
	case kindBool:
		ok = scalar && n.ShortTag() == "!!bool"
	case kindDuration:
		_, err := time.ParseDuration(n.Value)
		ok = scalar && n.ShortTag() == "!!str" && err == nil
	case kindList:
		ok = n.Kind == yaml.SequenceNode && !slices.ContainsFunc(n.Content, func(item *yaml.Node) bool {
			return item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str"
		})
	}
	if !ok {
		hint := ""
		if kind == kindText && scalar && n.Value != "" {
			hint = "put it into quotes"
		}
		c.fail(n, key, hint, "must be %s", kind)
	}
}

// children lists the names directly below a key, sorted.
func (c *fileCheck) children(at string) []string {
	names := map[string]bool{}
	for key := range c.kinds {
		rest, below := strings.CutPrefix(key, at+".")
		if at == "" {
			rest, below = key, true
		}
		if below {
			name, _, _ := strings.Cut(rest, ".")
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// shown is a name of the file as a message may repeat it.
func shown(name string) string {
	if q := quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// closest returns the name that somebody who wrote s probably meant: the same letters in another
// case, or a few of them wrong. "" is none.
func closest(s string, names []string) string {
	best, found := len(s)/3+2, ""
	for _, name := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(name)); d < best {
			best, found = d, name
		}
	}
	return found
}

// distance is the Levenshtein distance of two short names, in bytes. A long one is no typo.
func distance(a, b string) int {
	const most = 64
	if len(a) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
