package learn

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sallyport/sallyport/policy"
)

// maxRequests is how many requests on a port are learnt one by one; of more only methods and hosts are: nobody reviews
// hundreds of paths, and each is a rule to the kernel.
const maxRequests = 16

// request is one that was seen. Headers but Host are not told.
type request struct{ method, host, path string }

// isRequest says whether a policy can name a request.
func isRequest(r *policy.Request) bool {
	for _, text := range []string{r.Method, r.Host, r.Path} {
		e, err := policy.ParseRegex(regexp.QuoteMeta(text))
		if !utf8.ValidString(text) || err != nil || !e.Match(text) {
			return false
		}
	}
	return r.Method != ""
}

// requestRules writes rules.http of requests.
func requestRules(seen map[request]bool) string {
	if len(seen) > maxRequests {
		wide := map[request]bool{}
		for r := range seen {
			wide[request{r.method, r.host, ""}] = true
		}
		seen = wide
	}
	var out []string
	for _, r := range slices.SortedFunc(maps.Keys(seen), func(a, b request) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.path, b.path), cmp.Compare(a.method, b.method))
	}) {
		var parts []string
		for _, part := range []struct{ field, text string }{{"method", r.method}, {"path", r.path}, {"host", r.host}} {
			if part.text != "" {
				parts = append(parts, part.field+": "+quoted(regexp.QuoteMeta(part.text)))
			}
		}
		out = append(out, "{"+strings.Join(parts, ", ")+"}")
	}
	return strings.Join(out, ", ")
}
