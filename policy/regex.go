package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
)

// Bounds on what one regular expression can cost. Those on the automaton that many of them make
// together are compile's.
const (
	MaxRegexLength = 1024
	maxRegexNodes  = 1 << 13 // after repetitions are written out
)

// Regex is a regular expression in the syntax of RE2 that is matched against a whole string, byte by
// byte: . and [^a] stand for one byte, also where a character has several. What it can name is ASCII, so
// that (for strings in UTF-8) nothing is half a character but by . and [^a]. The zero Regex matches the
// empty string.
type Regex struct {
	text   string
	root   RegexNode
	oracle *regexp.Regexp
}

// RegexNode is a part of a Regex.
type RegexNode struct {
	Kind RegexKind
	Set  ByteSet     // for RegexByte
	Subs []RegexNode // for the others: one for RegexStar and RegexOptional
}

// RegexKind says what a RegexNode stands for.
type RegexKind uint8

// The kinds of nodes.
const (
	RegexConcat    RegexKind = iota // its parts, one after the other; without parts the empty string
	RegexAlternate                  // one of its parts; without parts nothing
	RegexStar                       // any number of times
	RegexOptional                   // once, or not
	RegexByte                       // one byte of Set
)

// ParseRegex parses a regular expression. Its errors say what cannot be used, or what would be right.
func ParseRegex(text string) (Regex, error) {
	if len(text) > MaxRegexLength {
		return Regex{}, fmt.Errorf("a regular expression of %d bytes is too long: at most %d", len(text), MaxRegexLength)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if bad, ok := errors.AsType[*syntax.Error](err); ok {
		return Regex{}, fmt.Errorf("%s: %s", bad.Code, quote(bad.Expr))
	}
	if err != nil {
		return Regex{}, fmt.Errorf("parsing it: %w", err)
	}
	p := regexParser{}
	// Every way from the beginning to the end is there once, so that anchors are true only at both.
	root, err := p.node(tree.Simplify(), true, true)
	if err != nil {
		return Regex{}, err
	}
	oracle, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return Regex{}, fmt.Errorf("parsing it: %w", err)
	}
	return Regex{text, root, oracle}, nil
}

// regexParser turns the tree of regexp/syntax into one of bytes.
type regexParser struct {
	nodes int
}

// node turns one node; first and last say whether it is at the beginning and at the end of whatever
// matches, where anchors say nothing new.
func (p *regexParser) node(re *syntax.Regexp, first, last bool) (out RegexNode, err error) {
	if p.nodes++; p.nodes > maxRegexNodes {
		return out, fmt.Errorf("it is too large when repetitions are written out: more than %d parts", maxRegexNodes)
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return RegexNode{Kind: RegexAlternate}, nil
	case syntax.OpEmptyMatch:
		return RegexNode{Kind: RegexConcat}, nil
	case syntax.OpLiteral:
		return p.literal(re)
	case syntax.OpCharClass:
		set, err := classBytes(re.Rune)
		return RegexNode{Kind: RegexByte, Set: set}, err
	case syntax.OpAnyCharNotNL:
		return RegexNode{Kind: RegexByte, Set: anyByte().without('\n')}, nil
	case syntax.OpAnyChar:
		return RegexNode{Kind: RegexByte, Set: anyByte()}, nil
	case syntax.OpBeginText, syntax.OpBeginLine:
		if !first {
			return out, errors.New("^ can only stand at the beginning: the whole string is matched anyway")
		}
		return RegexNode{Kind: RegexConcat}, nil
	case syntax.OpEndText, syntax.OpEndLine:
		if !last {
			return out, errors.New("$ can only stand at the end: the whole string is matched anyway")
		}
		return RegexNode{Kind: RegexConcat}, nil
	case syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return out, errors.New(`\b and \B cannot be used`)
	case syntax.OpCapture:
		return p.node(re.Sub[0], first, last)
	case syntax.OpStar, syntax.OpPlus:
		return p.repeat(re)
	case syntax.OpQuest:
		sub, err := p.node(re.Sub[0], first, last)
		return RegexNode{Kind: RegexOptional, Subs: []RegexNode{sub}}, err
	case syntax.OpConcat, syntax.OpAlternate:
		return p.several(re, first, last)
	case syntax.OpRepeat: // written out by Simplify
	}
	return out, fmt.Errorf("%s cannot be used", quote(re.String()))
}

// several turns a concatenation or an alternation.
func (p *regexParser) several(re *syntax.Regexp, first, last bool) (RegexNode, error) {
	out := RegexNode{Kind: RegexConcat}
	if re.Op == syntax.OpAlternate {
		out.Kind = RegexAlternate
	}
	anchor := func(ops ...syntax.Op) func(*syntax.Regexp) bool {
		return func(r *syntax.Regexp) bool { return !slices.Contains(ops, r.Op) }
	}
	for i, sub := range re.Sub {
		f, l := first, last
		if re.Op == syntax.OpConcat {
			f = f && !slices.ContainsFunc(re.Sub[:i], anchor(syntax.OpBeginText, syntax.OpBeginLine))
			l = l && !slices.ContainsFunc(re.Sub[i+1:], anchor(syntax.OpEndText, syntax.OpEndLine))
		}
		node, err := p.node(sub, f, l)
		if err != nil {
			return out, err
		}
		out.Subs = append(out.Subs, node)
	}
	return out, nil
}

// repeat turns x* and x+.
func (p *regexParser) repeat(re *syntax.Regexp) (RegexNode, error) {
	sub, err := p.node(re.Sub[0], false, false)
	if err != nil {
		return sub, err
	}
	star := RegexNode{Kind: RegexStar, Subs: []RegexNode{sub}}
	if re.Op == syntax.OpStar {
		return star, nil
	}
	return RegexNode{Kind: RegexConcat, Subs: []RegexNode{sub, star}}, nil
}

// literal turns a run of characters.
func (p *regexParser) literal(re *syntax.Regexp) (RegexNode, error) {
	out := RegexNode{Kind: RegexConcat}
	for _, r := range re.Rune {
		if p.nodes++; r >= 0x80 {
			return out, fmt.Errorf("%s is not ASCII: in a path it is written as %%XX", quote(string(r)))
		}
		set := only(byte(r))
		if re.Flags&syntax.FoldCase != 0 {
			if lower := byte(r) | 0x20; 'a' <= lower && lower <= 'z' {
				set.add(lower, lower)
				set.add(lower&^0x20, lower&^0x20)
			}
		}
		out.Subs = append(out.Subs, RegexNode{Kind: RegexByte, Set: set})
	}
	return out, nil
}

// The characters above U+00FF that are a letter of ASCII in another case.
const (
	longS  = 0x17f
	kelvin = 0x212a
)

// classBytes returns the bytes of a class, which is given as pairs of first and last characters. Bytes
// from 0x80 on are in it either all or not at all.
func classBytes(ranges []rune) (set ByteSet, err error) {
	beyond := 0
	for i := 0; i+1 < len(ranges); i += 2 {
		lo, hi := ranges[i], ranges[i+1]
		if lo < 0x80 {
			set.add(byte(lo), byte(min(hi, 0x7f)))
		}
		if folded := lo == hi && (lo == longS || lo == kelvin); hi >= 0x80 && !folded {
			beyond += int(hi-max(lo, 0x80)) + 1
		}
	}
	// Of 0x80 and more a class of ASCII has nothing, and a negated one everything but the two characters
	// that fold into it, where case does not matter.
	switch all := 0x10ffff - 0x80 + 1; {
	case beyond == 0:
	case beyond >= all-2:
		set.add(0x80, 0xff)
	default:
		return set, errors.New("a class can hold ASCII only, or exclude it")
	}
	return set, nil
}

// Match says whether the expression matches the whole of s. It asks regexp, with each byte as a
// character; compile/dfa must agree with it.
func (r Regex) Match(s string) bool {
	if r.oracle == nil {
		return s == ""
	}
	characters := make([]rune, len(s))
	for i := range len(s) {
		characters[i] = rune(s[i])
	}
	return r.oracle.MatchString(string(characters))
}

// Root returns the tree of the expression. The caller must not change it.
func (r Regex) Root() RegexNode { return r.root }

// String returns the expression as it was written.
func (r Regex) String() string { return r.text }

// IsZero says whether the expression is the zero one.
func (r Regex) IsZero() bool { return r.text == "" }

// Equal says whether two expressions are written alike.
func (r Regex) Equal(other Regex) bool { return r.text == other.text }

// MarshalText implements encoding.TextMarshaler.
func (r Regex) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It is as strict as ParseRegex.
func (r *Regex) UnmarshalText(text []byte) error {
	parsed, err := ParseRegex(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
