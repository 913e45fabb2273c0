package policy

import (
	"errors"
	"fmt"
	"strings"
)

// MaxGlobLength is how many bytes a pattern can have. It bounds what compiling one can cost.
const MaxGlobLength = 1024

// Glob is a pattern that is matched against a whole string, byte by byte:
//
//   - any bytes but /
//     **      any bytes; /**/ also stands for a single /, so that /a/**/b matches /a/b
//     ?       one byte but /
//     [a-z]   one byte of the class; [!a-z] or [^a-z] one that is neither of the class nor /
//     \x      the byte x
//
// In a pattern that does not begin with / (memfd:*, a container's name) / is a byte like any
// other: such a name is no path, and a program that may choose it must not be able to hide from
// the pattern by a slash. The zero Glob matches the empty string.
type Glob struct {
	text   string
	tokens []GlobToken
}

// GlobToken is one step of a Glob: what the next bytes must be.
type GlobToken struct {
	Kind GlobKind
	Set  ByteSet // for GlobOne and GlobMany
}

// GlobKind says how many bytes a GlobToken stands for.
type GlobKind uint8

// The kinds of tokens.
const (
	GlobOne    GlobKind = iota // one byte of Set
	GlobMany                   // any number of bytes of Set
	GlobDirs                   // nothing, or any bytes that end with /
	GlobLabels                 // one or more times: bytes of Set, at least one, and a dot; only a NamePattern has it
)

// ByteSet is a set of bytes: bit b%64 of word b/64 is byte b.
type ByteSet [4]uint64

// Has says whether b is in the set.
func (s *ByteSet) Has(b byte) bool { return s[b/64]>>(b%64)&1 == 1 }

// add puts the bytes from lo to hi into the set.
func (s *ByteSet) add(lo, hi byte) {
	for b := int(lo); b <= int(hi); b++ {
		s[b/64] |= 1 << (b % 64)
	}
}

// without returns the set less one byte.
func (s ByteSet) without(b byte) ByteSet {
	s[b/64] &^= 1 << (b % 64)
	return s
}

// anyByte returns the set of all bytes.
func anyByte() ByteSet { return ByteSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

// ParseGlob parses a pattern. Its errors say what would be right.
func ParseGlob(pattern string) (Glob, error) {
	if pattern == "" {
		return Glob{}, errors.New("an empty pattern matches nothing")
	}
	if len(pattern) > MaxGlobLength {
		return Glob{}, fmt.Errorf("a pattern of %d bytes is too long: at most %d", len(pattern), MaxGlobLength)
	}
	if strings.IndexByte(pattern, 0) >= 0 {
		return Glob{}, errors.New("a NUL byte occurs in no name")
	}
	g := globParser{rest: pattern, single: anyByte()}
	if pattern[0] == '/' {
		if err := checkResolved(pattern); err != nil {
			return Glob{}, err
		}
		g.single = g.single.without('/')
	}
	for g.rest != "" {
		if err := g.next(); err != nil {
			return Glob{}, err
		}
	}
	return Glob{text: pattern, tokens: g.tokens}, nil
}

// checkResolved refuses path patterns that no resolved path can match.
func checkResolved(pattern string) error {
	if pattern == "/" {
		return errors.New("/ is a directory, no executable: /** matches every path")
	}
	if strings.HasSuffix(pattern, "/") {
		return fmt.Errorf("a resolved path never ends with /: %s** matches all below", pattern)
	}
	for part := range strings.SplitSeq(pattern[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return errors.New("a resolved path never contains //, /./ or /../")
		}
	}
	return nil
}

type globParser struct {
	rest   string
	single ByteSet // what * and ? stand for
	tokens []GlobToken
}

// next parses one step of the pattern.
func (g *globParser) next() error {
	switch c := g.rest[0]; c {
	case '*':
		g.stars()
		return nil
	case '[':
		return g.class()
	case '{', '}':
		return fmt.Errorf("braces are not supported: write one pattern for each alternative, or \\%c for the byte itself", c)
	case '?':
		g.tokens = append(g.tokens, GlobToken{Kind: GlobOne, Set: g.single})
		g.rest = g.rest[1:]
		return nil
	default:
		b, err := g.literal()
		if err != nil {
			return err
		}
		g.tokens = append(g.tokens, GlobToken{Kind: GlobOne, Set: only(b)})
		return nil
	}
}

// only returns the set of one byte.
func only(b byte) (s ByteSet) {
	s.add(b, b)
	return s
}

// literal takes one byte, which a backslash may precede.
func (g *globParser) literal() (byte, error) {
	if g.rest[0] != '\\' {
		b := g.rest[0]
		g.rest = g.rest[1:]
		return b, nil
	}
	if len(g.rest) < 2 {
		return 0, errors.New("a backslash must precede the byte it escapes: \\\\ is a backslash")
	}
	if g.rest[1] == '/' {
		return 0, errors.New("/ needs no backslash")
	}
	b := g.rest[1]
	g.rest = g.rest[2:]
	return b, nil
}

// stars takes a run of stars. A longer run means the same as two.
func (g *globParser) stars() {
	n := len(g.rest) - len(strings.TrimLeft(g.rest, "*"))
	atStart := len(g.tokens) > 0 && g.tokens[len(g.tokens)-1] == GlobToken{Kind: GlobOne, Set: only('/')}
	g.rest = g.rest[n:]
	switch {
	case n == 1:
		g.tokens = append(g.tokens, GlobToken{Kind: GlobMany, Set: g.single})
	case atStart && !g.single.Has('/') && strings.HasPrefix(g.rest, "/"):
		g.rest = g.rest[1:]
		// /**/**/ is /**/: writing it twice must not cost twice.
		for strings.HasPrefix(g.rest, "**/") {
			g.rest = g.rest[3:]
		}
		g.tokens = append(g.tokens, GlobToken{Kind: GlobDirs})
	default:
		g.tokens = append(g.tokens, GlobToken{Kind: GlobMany, Set: anyByte()})
	}
}

// class takes a [class].
func (g *globParser) class() error {
	g.rest = g.rest[1:]
	negated := strings.HasPrefix(g.rest, "!") || strings.HasPrefix(g.rest, "^")
	if negated {
		g.rest = g.rest[1:]
	}
	var set ByteSet
	for first := true; ; first = false {
		if g.rest == "" {
			return errors.New("a class has no end: [abc] is one, \\[ is the byte itself")
		}
		if g.rest[0] == ']' {
			if first {
				return errors.New("a class is empty: [abc] is one, \\[ is the byte itself")
			}
			g.rest = g.rest[1:]
			break
		}
		if err := g.member(&set); err != nil {
			return err
		}
	}
	if negated {
		for i := range set {
			set[i] = ^set[i] & g.single[i]
		}
		set = set.without(0)
	}
	g.tokens = append(g.tokens, GlobToken{Kind: GlobOne, Set: set})
	return nil
}

// member takes one byte or one range of a class.
func (g *globParser) member(set *ByteSet) error {
	lo, err := g.literal()
	if err != nil {
		return err
	}
	hi := lo
	if len(g.rest) >= 2 && g.rest[0] == '-' && g.rest[1] != ']' {
		g.rest = g.rest[1:]
		if hi, err = g.literal(); err != nil {
			return err
		}
	}
	switch {
	case lo >= 0x80 || hi >= 0x80:
		return errors.New("a class can hold ASCII only: write one pattern for each alternative")
	case lo > hi:
		return fmt.Errorf("the range %c-%c runs backwards", lo, hi)
	case lo <= '/' && '/' <= hi && !g.single.Has('/'):
		return errors.New("a class cannot hold /: it is one byte of a file's name")
	}
	set.add(lo, hi)
	return nil
}

// Match says whether the pattern matches the whole of s. It is the slow, obvious definition of
// what a pattern means; compile/dfa must agree with it.
func (g Glob) Match(s string) bool {
	// reached[j] is whether the tokens so far can match s[:j].
	reached := make([]bool, len(s)+1)
	reached[0] = true
	for _, t := range g.tokens {
		next := make([]bool, len(s)+1)
		inside := false // GlobDirs: a start was reached at or before j
		for j := range reached {
			switch t.Kind {
			case GlobOne:
				next[j] = j > 0 && reached[j-1] && t.Set.Has(s[j-1])
			case GlobMany:
				next[j] = reached[j] || j > 0 && next[j-1] && t.Set.Has(s[j-1])
			case GlobDirs:
				next[j] = reached[j] || inside && s[j-1] == '/'
				inside = inside || reached[j]
			case GlobLabels: // not in a Glob
			}
		}
		reached = next
	}
	return reached[len(s)]
}

// String returns the pattern as it was written.
func (g Glob) String() string { return g.text }

// Tokens returns the steps of the pattern. The caller must not change them.
func (g Glob) Tokens() []GlobToken { return g.tokens }

// Equal says whether two patterns are written alike.
func (g Glob) Equal(other Glob) bool { return g.text == other.text }

// MarshalText implements encoding.TextMarshaler.
func (g Glob) MarshalText() ([]byte, error) { return []byte(g.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It is as strict as ParseGlob.
func (g *Glob) UnmarshalText(text []byte) error {
	parsed, err := ParseGlob(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}
