package dfa_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile/dfa"
)

// build makes an automaton in which each pattern has its index as tag.
func build(tb testing.TB, patterns ...string) (*dfa.DFA, []policy.Glob) {
	tb.Helper()
	b := &dfa.Builder{}
	globs := make([]policy.Glob, 0, len(patterns))
	for i, p := range patterns {
		g, err := policy.ParseGlob(p)
		if err != nil {
			tb.Fatalf("%s: %v", p, err)
		}
		globs = append(globs, g)
		b.Add(g.Tokens(), uint32(i))
	}
	d, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return d, globs
}

// cells lays an automaton out; the accept cells index the returned tag sets.
func cells(tb testing.TB, d *dfa.DFA) ([]uint16, [][]uint32) {
	tb.Helper()
	var sets [][]uint32
	out, err := d.Cells(func(tags []uint32) (uint16, error) {
		i := slices.IndexFunc(sets, func(s []uint32) bool { return slices.Equal(s, tags) })
		if i < 0 {
			i = len(sets)
			sets = append(sets, tags)
		}
		return uint16(i), nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if len(out) != d.Size() {
		tb.Fatalf("%d cells, Size says %d", len(out), d.Size())
	}
	return out, sets
}

// obvious returns the tags of the globs that match, one by one.
func obvious(globs []policy.Glob, s string) (tags []uint32) {
	for i, g := range globs {
		if g.Match(s) {
			tags = append(tags, uint32(i))
		}
	}
	return tags
}

func TestWalkMatchesAsTheGlobs(t *testing.T) {
	t.Parallel()
	alphabet := []string{"/", "a", "b", "c", "/a/", "usr", "bin", ".", "memfd:", "\xff", "ä"}
	patterns := []string{
		"/usr/**", "/usr/*/a", "/**/bin/a*", "/a?b", "/[a-b]*", "/[!a]/b", "memfd:*", "/usr/bin/a", "/**", "a*b", "/**/a/**/b", "/a/**b**/c", `/\*`,
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		picked := make([]string, 1+r.IntN(6))
		for i := range picked {
			picked[i] = patterns[r.IntN(len(patterns))]
		}
		d, globs := build(t, picked...)
		c, sets := cells(t, d)
		for range 100 {
			var s strings.Builder
			for range r.IntN(10) {
				s.WriteString(alphabet[r.IntN(len(alphabet))])
			}
			got := sets[dfa.Walk(c, d.Classes(), s.String())]
			if diff := cmp.Diff(obvious(globs, s.String()), got); diff != "" {
				t.Fatalf("%q on %q: (-globs +dfa)\n%s", picked, s.String(), diff)
			}
		}
	}
}

func TestBuildIsMinimal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		patterns        []string
		states, classes int
	}{
		{[]string{"/a"}, 4, 3},           // start, /, /a, dead; the bytes /, a, other
		{[]string{"/**"}, 3, 2},          // start, /…, dead
		{[]string{"/**", "/**/a"}, 5, 3}, // start, dead, …/, …/a, other
		{[]string{"/ab", "/cb"}, 7, 5},   // the tags differ: the ways cannot join
		{[]string{"/[ac]b"}, 5, 4},       // one tag: they join, and a and c are one class
		{[]string{"memfd:*"}, 8, 6},      // m, e, f, d, :, other
		{[]string{"/*", "/?**", "/**"}, 6, 2},
	} {
		d, _ := build(t, tt.patterns...)
		if !distinguishable(t, d) {
			t.Errorf("%q: two of %d states are the same", tt.patterns, d.States())
		}
		if d.States() != tt.states || d.Classes() != tt.classes {
			t.Errorf("%q: %d states, %d classes, not %d, %d", tt.patterns, d.States(), d.Classes(), tt.states, tt.classes)
		}
	}
}

// distinguishable says whether every two states are told apart by some string: that is what
// minimal means. It is Moore's method on the cells, and knows nothing of Hopcroft's.
func distinguishable(tb testing.TB, d *dfa.DFA) bool {
	tb.Helper()
	c, _ := cells(tb, d)
	rows, width := c[dfa.Head:], d.Classes()+1
	block := make([]string, d.States())
	for s := range block {
		block[s] = fmt.Sprint(rows[s*width+width-1])
	}
	for range d.States() {
		next := make([]string, d.States())
		names := map[string]string{}
		for s := range next {
			key := block[s]
			for _, off := range rows[s*width : s*width+width-1] {
				key += "," + block[int(off)/width]
			}
			if _, ok := names[key]; !ok {
				names[key] = fmt.Sprint(len(names))
			}
			next[s] = names[key]
		}
		block = next
	}
	slices.Sort(block)
	return len(slices.Compact(block)) == d.States()
}

func TestBuildIsDeterministic(t *testing.T) {
	t.Parallel()
	patterns := []string{"/usr/**/a", "/[a-f]*", "/b?", "memfd:*", "/**/x/**"}
	d, _ := build(t, patterns...)
	want, _ := cells(t, d)
	for range 20 {
		d, _ := build(t, patterns...)
		if got, _ := cells(t, d); !slices.Equal(got, want) {
			t.Fatal("the same patterns gave other cells")
		}
	}
}

func TestBuildGivesUp(t *testing.T) {
	t.Parallel()
	b := &dfa.Builder{}
	g, err := policy.ParseGlob("/**a" + strings.Repeat("?", 20)) // 2^20 states: which of the last 21 bytes were a
	if err != nil {
		t.Fatal(err)
	}
	b.Add(g.Tokens(), 0)
	if _, err := b.Build(); !errors.Is(err, dfa.ErrTooBig) {
		t.Fatalf("got %v, not ErrTooBig", err)
	}
}

func TestEmptyBuilderMatchesNothing(t *testing.T) {
	t.Parallel()
	d, _ := build(t)
	c, sets := cells(t, d)
	for _, s := range []string{"", "/", "a"} {
		if tags := sets[dfa.Walk(c, d.Classes(), s)]; len(tags) != 0 {
			t.Errorf("%q matches %v", s, tags)
		}
	}
}

// FuzzRegex holds the automaton to regexp.
func FuzzRegex(f *testing.F) {
	f.Add("/v1/(a|b)*c?", "GET|POST", "/v1/abc")
	f.Add("(?i)k[^a-z]+$", "^.{2,5}|x", "K\xff")
	f.Add("(a*)*b|(a|aa)+", `[\w.-]+\.example`, "aaab")
	f.Add("((a?b)*|c)(d|)", "()|a{3}", "ababd")
	f.Fuzz(func(t *testing.T, r1, r2, s string) {
		b := &dfa.Builder{}
		var want []uint32
		for i, text := range []string{r1, r2} {
			r, err := policy.ParseRegex(text)
			if err != nil || len(s) > 256 || len(text) > 48 {
				return
			}
			b.AddRegex(r.Root(), uint32(i))
			if r.Match(s) {
				want = append(want, uint32(i))
			}
		}
		d, err := b.Build()
		if errors.Is(err, dfa.ErrTooBig) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Size() > 1<<16 {
			return
		}
		c, sets := cells(t, d)
		if diff := cmp.Diff(want, sets[dfa.Walk(c, d.Classes(), s)]); diff != "" {
			t.Errorf("%q %q on %q: (-regexp +dfa)\n%s", r1, r2, s, diff)
		}
	})
}

// TestRegexMatchesAsRegexp makes random expressions from pieces, and random strings.
func TestRegexMatchesAsRegexp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	var expression func(depth int) string
	expression = func(depth int) string {
		if depth == 0 {
			return pick("a", "b", "/", ".", "[a-b]", "[^a]", `\.`, "(?i:k)", "")
		}
		x, y := expression(depth-1), expression(depth-1)
		return pick(x+y, "(?:"+x+"|"+y+")", "(?:"+x+")*", "(?:"+x+")?", "(?:"+x+")+", "(?:"+x+"){0,2}"+y)
	}
	for range 400 {
		b := &dfa.Builder{}
		var all []policy.Regex
		for i := range 1 + r.IntN(3) {
			re, err := policy.ParseRegex(expression(3))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, re)
			b.AddRegex(re.Root(), uint32(i))
		}
		d, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		c, sets := cells(t, d)
		for range 60 {
			var s strings.Builder
			for range r.IntN(7) {
				s.WriteString(pick("a", "b", "/", ".", "k", "K", "\xff", "\n"))
			}
			var want []uint32
			for i, re := range all {
				if re.Match(s.String()) {
					want = append(want, uint32(i))
				}
			}
			if diff := cmp.Diff(want, sets[dfa.Walk(c, d.Classes(), s.String())]); diff != "" {
				t.Fatalf("%v on %q: (-regexp +dfa)\n%s", all, s.String(), diff)
			}
		}
	}
}

// FuzzNames holds the automaton to the definition of names.
func FuzzNames(f *testing.F) {
	f.Add("**.example", "*.b*.example", "a.b.example")
	f.Add("*", "**.*", "")
	f.Add("**.*-*.x", "a.*", "a.b-c.x")
	f.Fuzz(func(t *testing.T, p1, p2, s string) {
		b := &dfa.Builder{}
		var want []uint32
		for i, text := range []string{p1, p2} {
			p, err := policy.ParseNamePattern(text)
			if err != nil || len(s) > 256 || len(text) > 64 {
				return
			}
			b.Add(p.Tokens(), uint32(i))
			if p.Match(s) {
				want = append(want, uint32(i))
			}
		}
		d, err := b.Build()
		if errors.Is(err, dfa.ErrTooBig) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Size() > 1<<16 {
			return
		}
		c, sets := cells(t, d)
		if diff := cmp.Diff(want, sets[dfa.Walk(c, d.Classes(), s)]); diff != "" {
			t.Errorf("%q %q on %q: (-names +dfa)\n%s", p1, p2, s, diff)
		}
	})
}

func FuzzDFA(f *testing.F) {
	f.Add("/usr/**/a", "/b?[a-c]*", "memfd:*", "/usr/x/a")
	f.Add("/**", "/**/**/b", "x*", "/a/b")
	f.Fuzz(func(t *testing.T, p1, p2, p3, s string) {
		b := &dfa.Builder{}
		var globs []policy.Glob
		for i, p := range []string{p1, p2, p3} {
			g, err := policy.ParseGlob(p)
			if err != nil || len(p) > 64 || len(s) > 256 {
				return
			}
			globs = append(globs, g)
			b.Add(g.Tokens(), uint32(i))
		}
		d, err := b.Build()
		if err != nil {
			if !errors.Is(err, dfa.ErrTooBig) {
				t.Fatal(err)
			}
			return
		}
		if d.Size() > 1<<16 {
			return
		}
		c, sets := cells(t, d)
		if diff := cmp.Diff(obvious(globs, s), sets[dfa.Walk(c, d.Classes(), s)]); diff != "" {
			t.Errorf("%q %q %q on %q: (-globs +dfa)\n%s", p1, p2, p3, s, diff)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 60, 500} {
		b.Run(fmt.Sprintf("binaries=%d", n), func(b *testing.B) {
			patterns := make([]string, 0, n+3)
			for i := range n {
				patterns = append(patterns, fmt.Sprintf("/usr/bin/program-%03d", i))
			}
			patterns = append(patterns, "/opt/**/bin/*", "/usr/lib/**", "memfd:*")
			var d *dfa.DFA
			for b.Loop() {
				d, _ = build(b, patterns...)
			}
			b.ReportMetric(float64(d.States()), "states")
			b.ReportMetric(float64(d.Size()), "cells")
		})
	}
}
