package policy

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNameLength is how many bytes a DNS name can have, without the dot at its end.
const MaxNameLength = 253

const maxDNSLabelLength = 63

// FQDNSelector selects DNS names: exactly one of its fields is there.
type FQDNSelector struct {
	MatchName    NamePattern `json:"matchName,omitzero"`
	MatchPattern NamePattern `json:"matchPattern,omitzero"`
}

// Pattern returns the field that is there.
func (s FQDNSelector) Pattern() NamePattern {
	if s.MatchName.text != "" {
		return s.MatchName
	}
	return s.MatchPattern
}

// String returns the selector's name or pattern.
func (s FQDNSelector) String() string { return s.Pattern().text }

// NamePattern is a DNS name or a pattern of names. It is matched against a whole name in the form
// of NormalName, and means what it means in Cilium:
//
//   - alone stands for every name, the root included
//     **.  at the beginning stands for one or more whole labels: **.a.example matches x.a.example
//     and x.y.a.example, but not a.example
//   - elsewhere stands for any number of letters, digits, - and _: a part of one label
//
// The zero NamePattern matches no name.
type NamePattern struct {
	text   string
	tokens []GlobToken
}

// NormalName returns a DNS name as patterns are matched against it: in lower case, and without the
// dot at its end.
func NormalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// ParseName parses a name that only itself matches.
func ParseName(name string) (NamePattern, error) {
	if strings.Contains(name, "*") {
		return NamePattern{}, errors.New("a name has no *: matchPattern is for patterns")
	}
	return ParseNamePattern(name)
}

// ParseNamePattern parses a name or a pattern. Its errors say what would be right.
func ParseNamePattern(text string) (NamePattern, error) {
	text = NormalName(text)
	switch {
	case text == "":
		return NamePattern{}, errors.New("an empty name matches nothing: * matches every name")
	case len(text) > MaxNameLength:
		return NamePattern{}, fmt.Errorf("a name of %d bytes is too long: at most %d", len(text), MaxNameLength)
	case text == "*":
		return NamePattern{text, []GlobToken{{Kind: GlobMany, Set: anyByte()}}}, nil
	}
	p := NamePattern{text: text}
	rest, deep := strings.CutPrefix(text, "**.")
	if deep {
		p.tokens = append(p.tokens, GlobToken{Kind: GlobLabels, Set: labelBytes()})
	}
	if strings.Contains(rest, "**") {
		return NamePattern{}, errors.New("** can only stand at the beginning, as a label of its own: **.example.com")
	}
	labels := strings.Split(rest, ".")
	for i, label := range labels {
		if label == "" || len(label) > maxDNSLabelLength {
			return NamePattern{}, fmt.Errorf("between two dots stand 1 to %d bytes", maxDNSLabelLength)
		}
		if i > 0 {
			p.tokens = append(p.tokens, GlobToken{Kind: GlobOne, Set: only('.')})
		}
		for j := range len(label) {
			t := GlobToken{Kind: GlobOne, Set: only(label[j])}
			if allowed := labelBytes(); label[j] == '*' {
				t = GlobToken{Kind: GlobMany, Set: allowed}
			} else if !allowed.Has(label[j]) {
				return NamePattern{}, errors.New("a name has letters, digits, -, _ and dots; other letters are written as xn--…")
			}
			p.tokens = append(p.tokens, t)
		}
	}
	return p, nil
}

// labelBytes are the bytes that * stands for inside a label.
func labelBytes() (s ByteSet) {
	s.add('a', 'z')
	s.add('0', '9')
	s.add('-', '-')
	s.add('_', '_')
	return s
}

// Match says whether a name in normal form matches. It is the slow, obvious definition;
// compile/dfa must agree with it.
func (p NamePattern) Match(name string) bool {
	if p.text == "" {
		return false
	}
	if p.text == "*" {
		return true
	}
	rest, deep := strings.CutPrefix(p.text, "**.")
	if !deep {
		return matchLabels(rest, name)
	}
	for before, after := cutLabel(name); before != ""; before, after = cutLabel(after) {
		if !allIn(before, labelBytes()) {
			return false
		}
		if matchLabels(rest, after) {
			return true
		}
	}
	return false
}

// cutLabel parts a name behind its first label; label is empty where no dot follows it.
func cutLabel(name string) (label, rest string) {
	label, rest, dot := strings.Cut(name, ".")
	if !dot {
		return "", ""
	}
	return label, rest
}

// matchLabels matches label by label.
func matchLabels(pattern, name string) bool {
	patterns, labels := strings.Split(pattern, "."), strings.Split(name, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i := range patterns {
		if !matchLabel(patterns[i], labels[i]) {
			return false
		}
	}
	return true
}

// matchLabel matches one label: * is any number of labelBytes.
func matchLabel(pattern, label string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == label
	}
	rest, ok := strings.CutPrefix(label, before)
	for i := 0; ok && i <= len(rest) && allIn(rest[:i], labelBytes()); i++ {
		if matchLabel(after, rest[i:]) {
			return true
		}
	}
	return false
}

// allIn says whether every byte of s is in a set.
func allIn(s string, set ByteSet) bool {
	for i := range len(s) {
		if !set.Has(s[i]) {
			return false
		}
	}
	return true
}

// String returns the pattern in normal form.
func (p NamePattern) String() string { return p.text }

// Tokens returns the steps of the pattern. The caller must not change them.
func (p NamePattern) Tokens() []GlobToken { return p.tokens }

// IsZero says whether the pattern is the zero one, which no file can hold.
func (p NamePattern) IsZero() bool { return p.text == "" }

// Equal says whether two patterns are written alike.
func (p NamePattern) Equal(other NamePattern) bool { return p.text == other.text }

// MarshalText implements encoding.TextMarshaler.
func (p NamePattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It is as strict as ParseNamePattern.
func (p *NamePattern) UnmarshalText(text []byte) error {
	parsed, err := ParseNamePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
