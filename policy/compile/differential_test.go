package compile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/policy/policytest"
)

// expect returns what the tables must say where the reference says d.
func expect(d match.Decision) compile.Decision {
	out := compile.Decision{Verdict: d.Verdict.Number(), Would: d.Would.Number(), Reason: d.Reason.Number(), Ref: d.Ref}
	if d.Severity != "" {
		out.Severity = d.Severity.Number()
	}
	return out
}

// inside names what is asked about inside of a call.
func inside(q policytest.Question) string {
	switch {
	case q.Query != "":
		return "query"
	case q.Request != nil:
		return "request"
	}
	return "hello"
}

// differ fails the test where the tables and the reference judge a case differently, and counts
// what was decided and why.
func differ(t *testing.T, seed uint64, outcomes map[string]int) {
	t.Helper()
	c, err := policytest.Random(seed, 40)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := compile.Everything().Compile(c.Input)
	if err != nil && strings.Contains(err.Error(), "enableDefaultDeny: false is not enforced") {
		outcomes["refused"]++ // the tables cannot say it
		return
	}
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for _, q := range c.Questions {
		want, got := match.Judge(c.Input, q.Process, q.Call), tables.Judge(q.Process, q.Call)
		call := want
		switch query := (policy.Query{Call: q.Call, Name: q.Query}); {
		case q.Query != "":
			want, got = match.JudgeQuery(c.Input, q.Process, query), tables.JudgeQuery(q.Process, query)
		case q.Request != nil:
			want, got = match.JudgeRequest(c.Input, q.Process, *q.Request), tables.JudgeRequest(q.Process, *q.Request)
		case q.Hello != nil:
			want, got = match.JudgeHello(c.Input, q.Process, *q.Hello), tables.JudgeHello(q.Process, *q.Hello)
		}
		if want.Verdict != call.Verdict {
			outcomes[inside(q)+" denied"]++
		}
		outcomes[string(want.Verdict)+" by "+string(want.Reason)]++
		if diff := cmp.Diff(expect(want), got); diff != "" {
			policies, _ := json.Marshal(c.Input.Policies)
			t.Fatalf("seed %d: %+v\n%+v %q %+v %+v\nreference: %+v (-reference +tables)\n%s\n%s", seed, q.Process, q.Call, q.Query, q.Request, q.Hello, want, diff, policies)
		}
	}
}

func TestTablesJudgeAsTheReference(t *testing.T) {
	t.Parallel()
	outcomes := map[string]int{}
	seeds := uint64(1500)
	if testing.Short() { // under the race detector, which finds nothing in pure code
		seeds = 200
	}
	for seed := range seeds {
		differ(t, seed, outcomes)
	}
	// A generator that hardly reaches an outcome would prove nothing about it.
	least := int(seeds / 40)
	for _, v := range []policy.Verdict{policy.VerdictDeny, policy.VerdictDrop, policy.VerdictReset, policy.VerdictKill, policy.VerdictAudit} {
		for _, r := range []policy.Reason{policy.ReasonRule, policy.ReasonDefault} {
			if key := string(v) + " by " + string(r); outcomes[key] < least {
				t.Errorf("only %d cases of %s", outcomes[key], key)
			}
		}
	}
	if outcomes["refused"] > int(seeds/100) {
		t.Errorf("%d of %d cases are refused", outcomes["refused"], seeds)
	}
	for _, key := range []string{"query denied", "request denied", "hello denied"} {
		if outcomes[key] < max(1, least/4) {
			t.Errorf("only %d cases of %s", outcomes[key], key)
		}
	}
	t.Logf("%v", outcomes)
	for _, r := range []policy.Reason{policy.ReasonRule, policy.ReasonUngoverned, policy.ReasonLoopback} {
		if key := "Allow by " + string(r); outcomes[key] < least {
			t.Errorf("only %d cases of %s", outcomes[key], key)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed << 40)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { differ(t, seed, map[string]int{}) })
}

// asked is a random question as match takes it.
func asked(q policytest.Question) policy.Question {
	out := policy.Question{Call: q.Call, Request: q.Request}
	if q.Query != "" {
		out.Query = &q.Query
	}
	if q.Hello != nil {
		out.ServerName = &q.Hello.ServerName
	}
	return out
}

func TestExplainDecidesAsJudge(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		c, err := policytest.Random(seed, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range c.Questions {
			want := match.Judge(c.Input, q.Process, q.Call)
			e := match.Explain(c.Input, q.Process, q.Call)
			switch query := (policy.Query{Call: q.Call, Name: q.Query}); {
			case q.Query != "":
				want, e = match.JudgeQuery(c.Input, q.Process, query), match.ExplainQuery(c.Input, q.Process, query)
			case q.Request != nil:
				want, e = match.JudgeRequest(c.Input, q.Process, *q.Request), match.ExplainRequest(c.Input, q.Process, *q.Request)
			case q.Hello != nil:
				want, e = match.JudgeHello(c.Input, q.Process, *q.Hello), match.ExplainHello(c.Input, q.Process, *q.Hello)
			}
			if diff := cmp.Diff(want, e.Decision); diff != "" {
				t.Fatalf("seed %d: (-judge +explain)\n%s", seed, diff)
			}
			near := c.Input
			near.World = c.Input.World.Around(q.Call.Peer)
			if diff := cmp.Diff(e, match.Ask(near, q.Process, asked(q))); diff != "" {
				t.Fatalf("seed %d: %s: (-the world +what is around the peer)\n%s", seed, q.Call, diff)
			}
			deciding := 0
			for _, r := range e.Rules {
				if r.Why == "" {
					t.Errorf("seed %d: rule %s has no reason", seed, r.Rule)
				}
				if r.Decides {
					deciding++
				}
				denied := want.Denies() || want.Would != ""
				if r.Decides && r.Matches != (want.Reason == policy.ReasonRule) && (!denied || q.Query == "" && q.Request == nil && q.Hello == nil) {
					t.Errorf("seed %d: rule %s decides by %s, matches: %t", seed, r.Rule, want.Reason, r.Matches)
				}
			}
			if want.Ref == 0 && deciding != 0 || want.Ref != 0 && deciding != 1 {
				t.Errorf("seed %d: %d rules decide: %+v", seed, deciding, want)
			}
		}
	}
}
