package policy_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestGlobMatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"/usr/bin/curl", []string{"/usr/bin/curl"}, []string{"/usr/bin/curl2", "/usr/bin/cur", "usr/bin/curl", ""}},
		{"/usr/bin/*", []string{"/usr/bin/curl", "/usr/bin/.x", "/usr/bin/"}, []string{"/usr/bin", "/usr/bin/a/b"}},
		{"/usr/**", []string{"/usr/bin", "/usr/lib/a/b"}, []string{"/usr", "/usrx/a"}},
		{"/**", []string{"/a", "/a/b"}, []string{"memfd:a", ""}},
		{"/**/sh", []string{"/sh", "/bin/sh", "/a/b/sh"}, []string{"/bash", "/bin/bash", "/sh/x"}},
		{"/a/**/b", []string{"/a/b", "/a/x/b", "/a/x/y/b"}, []string{"/a/xb", "/ab", "/a//c"}},
		{"/a/**/**/b", []string{"/a/b", "/a/x/b"}, []string{"/a/xb"}},
		{"/a**z", []string{"/az", "/a/b/z"}, []string{"/a", "/b/z"}},
		{"/bin/?sh", []string{"/bin/ash", "/bin/zsh"}, []string{"/bin/sh", "/bin/bash", "/bin//sh"}},
		{"/bin/[a-cx]sh", []string{"/bin/ash", "/bin/xsh"}, []string{"/bin/dsh", "/bin/sh"}},
		{"/bin/[!a-c]sh", []string{"/bin/dsh", "/bin/\xffsh"}, []string{"/bin/ash", "/bin//sh"}},
		{"/bin/[^a]", []string{"/bin/b"}, []string{"/bin/a"}},
		{`/bin/\[`, []string{"/bin/["}, []string{`/bin/\[`}},
		{`/a/\*`, []string{"/a/*"}, []string{"/a/b"}},
		{"/a/[x-]", []string{"/a/x", "/a/-"}, []string{"/a/y"}},
		{"/ä", []string{"/ä"}, []string{"/a"}},
		{"memfd:*", []string{"memfd:", "memfd:x", "memfd:a/b"}, []string{"/memfd:x"}},
		{"web-?", []string{"web-1", "web-/"}, []string{"web-", "web-12"}},
	} {
		g, err := policy.ParseGlob(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for _, s := range tt.yes {
			if !g.Match(s) {
				t.Errorf("%s does not match %q", tt.pattern, s)
			}
		}
		for _, s := range tt.no {
			if g.Match(s) {
				t.Errorf("%s matches %q", tt.pattern, s)
			}
		}
	}
}

func TestParseGlobRefuses(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                              "empty",
		"/":                             "/**",
		"/usr/bin/":                     "/usr/bin/**",
		"/usr//bin":                     "//",
		"/usr/./bin":                    "/./",
		"/usr/../bin":                   "/../",
		"/bin/{a,b}":                    "braces",
		"/bin/[a":                       "no end",
		"/bin/[]":                       "empty",
		"/bin/[!]":                      "empty",
		"/bin/[z-a]":                    "backwards",
		"/bin/[ä]":                      "ASCII",
		"/bin/[+-9]":                    "cannot hold /",
		`/bin/a\`:                       "backslash",
		`/bin\/a`:                       "no backslash",
		"/a\x00":                        "NUL",
		"/" + strings.Repeat("a", 2000): "too long",
	} {
		if _, err := policy.ParseGlob(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not say %q", pattern, err, want)
		}
	}
}

// toRegexp translates a pattern that ParseGlob accepts into the syntax of package regexp, byte for
// byte: an implementation of somebody else's to compare with.
func toRegexp(pattern string) *regexp.Regexp {
	var b strings.Builder
	byteOf := func(c byte) string { return regexp.QuoteMeta(string(rune(c))) }
	single, path := ".", strings.HasPrefix(pattern, "/")
	if path {
		single = "[^/]"
	}
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			n := len(pattern[i:]) - len(strings.TrimLeft(pattern[i:], "*"))
			whole := path && n > 1 && pattern[i-1] == '/' && (i < 2 || pattern[i-2] != '\\') && strings.HasPrefix(pattern[i+n:], "/")
			i += n - 1
			switch {
			case n == 1:
				b.WriteString(single + "*")
			case whole:
				b.WriteString("(?:.*/)?")
				i++
			default:
				b.WriteString(".*")
			}
		case '?':
			b.WriteString(single)
		case '\\':
			i++
			b.WriteString(byteOf(pattern[i]))
		case '[':
			negated := pattern[i+1] == '!' || pattern[i+1] == '^'
			b.WriteByte('[')
			if i++; negated {
				b.WriteString(`^\x00`)
				if path {
					b.WriteByte('/')
				}
				i++
			}
			for ; pattern[i] != ']'; i++ {
				last := pattern[i+1] == ']'
				first := pattern[i-1] == '[' || negated && (pattern[i-1] == '!' || pattern[i-1] == '^') && pattern[i-2] == '['
				switch {
				case pattern[i] == '\\':
					i++
					b.WriteString(`\` + string(rune(pattern[i])))
				case pattern[i] == '-' && !last && !first:
					b.WriteByte('-')
				default:
					b.WriteString(byteOf(pattern[i]))
				}
			}
			b.WriteByte(']')
		default:
			b.WriteString(byteOf(c))
		}
	}
	return regexp.MustCompile(b.String() + `\z`)
}

// latin spells every byte as the rune of the same number, so that package regexp sees bytes.
func latin(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func FuzzGlob(f *testing.F) {
	for _, p := range []string{"/usr/**/bin/*", "/a/**/**/b", "/b?[a-z]", "memfd:*x*", "[!a]b", "/**x/*", `/a\*b`, "/***"} {
		f.Add(p, "/usr/a/bin/b")
		f.Add(p, "/bxa/b")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		g, err := policy.ParseGlob(pattern)
		if err != nil || strings.ContainsAny(pattern, "[\\") && strings.Contains(pattern, "-") || len(s) > 4096 {
			return // what a - means among escapes is tested by table
		}
		if want := toRegexp(pattern).MatchString(latin(s)); g.Match(s) != want {
			t.Errorf("%q matches %q: %t, regexp says %t", pattern, s, !want, want)
		}
	})
}
