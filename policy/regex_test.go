package policy_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestParseRegexRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"(":                        "missing closing )",
		`(a)\1`:                    "invalid escape sequence",
		"a(?=b)":                   "invalid or unsupported Perl syntax",
		`\bword`:                   `\b and \B cannot be used`,
		"a^b":                      "^ can only stand at the beginning",
		"(a$)*":                    "$ can only stand at the end",
		"a$b":                      "$ can only stand at the end",
		"/bücher":                  `"ü" is not ASCII`,
		"[à-ü]":                    "ASCII only",
		`\pL`:                      "ASCII only",
		"(a{1000}){1000}":          "invalid repeat count",
		"((((a{10}){10}){10})b)*?": "",
		"(abcdefghij){1000}":       "too large",
		strings.Repeat("a", 1025):  "too long",
	} {
		_, err := policy.ParseRegex(text)
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v does not say %q", text, err, want)
		}
	}
}

func TestRegexMatchesTheWhole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text    string
		yes, no []string
	}{
		{"/v1/charge(/.*)?", []string{"/v1/charge", "/v1/charge/", "/v1/charge/a/b"}, []string{"/v1/charges", "x/v1/charge", "/v1/charge/\n"}},
		{"GET|POST", []string{"GET", "POST"}, []string{"GETPOST", "get", ""}},
		{"(?i)get", []string{"GET", "gEt"}, []string{"g\xc4\xb0t"}},
		{"^/a$|^/b", []string{"/a", "/b"}, []string{"/a$", "/bb"}},
		{"(^/a)?b$", []string{"/ab", "b"}, []string{"a"}},
		{"/[^/]+", []string{"/a", "/\xff\x80"}, []string{"/", "/a/b"}},
		{`/\d{2,3}`, []string{"/12", "/123"}, []string{"/1", "/1234"}},
	} {
		r, err := policy.ParseRegex(tt.text)
		if err != nil {
			t.Fatalf("%s: %v", tt.text, err)
		}
		for _, s := range tt.yes {
			if !r.Match(s) {
				t.Errorf("%s does not match %q", tt.text, s)
			}
		}
		for _, s := range tt.no {
			if r.Match(s) {
				t.Errorf("%s matches %q", tt.text, s)
			}
		}
	}
}
