package policy_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestNamePatternMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"www.Example.COM.", []string{"www.example.com"}, []string{"example.com", "www.example.com.", "wwwxexample.com", ""}},
		{"*", []string{"", "com", "a.b.c", "\x00"}, nil},
		{"*.example.com", []string{"a.example.com", "_x-1.example.com"}, []string{"example.com", "a.b.example.com", "a\x00.example.com", "ä.example.com"}},
		{"**.example.com", []string{"a.example.com", "a.b.example.com"}, []string{"example.com", ".example.com", "a..example.com", "a.example.org", "\x01.a.example.com"}},
		{"a*b.example", []string{"ab.example", "a-x-b.example", "abab.example"}, []string{"a.b.example", "ba.example"}},
		{"**.*x.a", []string{"b.x.a", "c.b.yx.a"}, []string{"x.a", "b.x.b.a"}},
		{"*.*", []string{"a.b"}, []string{"a", "a.b.c"}},
		{"**.*", []string{"a.b", "a.b.c"}, []string{"a"}},
	} {
		p, err := policy.ParseNamePattern(tt.pattern)
		if err != nil {
			t.Fatalf("%s: %v", tt.pattern, err)
		}
		for _, name := range tt.yes {
			if !p.Match(name) {
				t.Errorf("%s does not match %q", tt.pattern, name)
			}
		}
		for _, name := range tt.no {
			if p.Match(name) {
				t.Errorf("%s matches %q", tt.pattern, name)
			}
		}
	}
	if (policy.NamePattern{}).Match("") {
		t.Error("no pattern matches the root")
	}
}

func TestNamePatternRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "empty name",
		".":                            "empty name",
		"a..b":                         "between two dots",
		strings.Repeat("a", 64) + ".b": "between two dots",
		strings.Repeat("ab.", 90):      "too long",
		"a.**.b":                       "only stand at the beginning",
		"**a.b":                        "only stand at the beginning",
		"**":                           "only stand at the beginning",
		"bücher.example":               "xn--",
		"a b":                          "letters, digits",
		"http://a":                     "letters, digits",
	} {
		if _, err := policy.ParseNamePattern(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v does not say %q", text, err, want)
		}
	}
	if _, err := policy.ParseName("*.a"); err == nil || !strings.Contains(err.Error(), "matchPattern") {
		t.Errorf("a name with a star: %v", err)
	}
}
