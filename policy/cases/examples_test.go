package cases_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
	"github.com/sallyport/sallyport/policy/match"
)

const examples = "../../contrib/policies"

// TestExamplesDoWhatTheySay runs the cases of the files that people copy. Each has a file of cases of its
// name, and each rule in it decides one of them.
func TestExamplesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(examples + "/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d example policies, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			policies := read(t, file, policy.Parse)
			unasked := map[string]bool{}
			for _, p := range policies {
				for i := range p.Spec.Rules {
					unasked[p.RuleName(&p.Spec.Rules[i])] = true
				}
			}
			name := filepath.Join(examples, "tests", filepath.Base(file))
			for _, set := range read(t, name, cases.Parse) {
				if len(set.Policies) != 1 || set.Policies[0] != "../"+filepath.Base(file) {
					t.Errorf("%s:%d is about %v", name, set.Line, set.Policies)
				}
				for _, r := range set.Run(policies) {
					delete(unasked, r.Got.Decision.Rule)
					if !r.Passed() {
						t.Errorf("%s:%d: %s: %v: %s", name, r.Case.Line, r.Case.Name, r.Failures, r.Got.Why)
					}
				}
			}
			for rule := range unasked {
				t.Errorf("no case is decided by %s", rule)
			}
		})
	}
}

// TestExamplesGoTogether asks about a shell under all examples at once.
func TestExamplesGoTogether(t *testing.T) {
	t.Parallel()
	files, err := policy.Load(os.DirFS(examples))
	if err != nil {
		t.Fatal(err)
	}
	var in policy.Input
	for _, f := range files {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		in.Policies = append(in.Policies, f.Policies...)
	}
	shell := policy.Process{Workload: policy.Workload{Namespace: "shop", Container: "app"}, Origin: policy.OriginExec, Exe: "/bin/sh"}
	call, err := policy.ParseCall("203.0.113.9:443")
	if err != nil {
		t.Fatal(err)
	}
	if d := match.Judge(in, shell, call); d.Rule != "ClusterProcessPolicy:user-namespaces/shells" || !d.Denies() {
		t.Errorf("%+v", d)
	}
}

// read reads and parses a file.
func read[T any](t *testing.T, name string, parse func(string, []byte) ([]T, error)) []T {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
