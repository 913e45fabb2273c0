package cmd

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
	"github.com/sallyport/sallyport/policy/match"
)

const testHelp = `Run test cases against policies: who calls whom, and what shall be decided. It asks nothing but the
policies: no agent, no cluster, no root. It is meant for the pipeline that a policy goes through.

PATH is a file, a folder (its *.yaml, *.yml and *.json) or - for standard input. A file holds one or more
documents:

  apiVersion: sallyport.dev/v1alpha1
  kind: PolicyTest
  policies: [checkout.yaml]              # files and folders, from the folder of this file
  node: {addresses: [192.0.2.1]}         # what the entity host stands for
  cluster:                               # what policies may say about it, as far as the cases need it
    namespaces: [{name: shop, labels: {team: pay}}]
    pods: [{name: db, namespace: shop, labels: {app: db}, addresses: [10.0.0.5], ports: [{name: sql, port: 5432}]}]
    services: [{name: db, namespace: shop, addresses: [10.96.0.7], ports: [{port: 5432, backends: ["10.0.0.5:5432"]}]}]
    remoteNodes: [192.0.2.2]             # also apiServers, health, podCIDRs
  workload:                              # of the cases that name none
    namespace: shop
    namespaceLabels: {team: pay}
    podLabels: {app: checkout}
    serviceAccount: checkout
    container: checkout                  # app, if left out
    containerType: App                   # App, Init, Sidecar or Ephemeral
  cases:
  - name: the program pays               # unique in the file
    origin: Main                         # Main, if left out; Exec, Probe, Host, Unknown
    binary: /usr/bin/checkout
    script: /opt/pay.py                  # where binary is an interpreter
    user: 1000                           # and group; 0, if left out
    to: 203.0.113.9:443/TCP              # or from: a peer that calls; or listen: 8080/TCP
    names: [api.payments.example]        # that DNS told the workload for the peer
    expect: Allow                        # Allow, Audit, Deny, Drop, Reset or Kill
    rule: shop/checkout/program          # may be left out, as what follows
    reason: rule                         # rule, default, ungoverned or loopback
    alert: critical                      # of a denial
    would: Kill                          # of expect: Audit, what Enforce would have done
  - {name: by name, to: api.payments.example:443, expect: Allow}             # an address that is nobody's
  - {name: query, to: 10.96.0.10:53/UDP, query: www.example.com, expect: Deny} # what it asks a resolver for
  - {name: request, to: 192.0.2.1:80, request: {method: PUT, path: /v1/keys, host: a.example}, expect: Deny}
  - {name: ping, to: 192.0.2.1/ICMP, icmpType: EchoRequest, expect: Allow}   # or a number; unknown, if left out
  - {name: TLS, to: 192.0.2.1:443, serverName: a.example, expect: Allow}     # what a TLS client asks for
  - {name: node, workload: {host: {unit: ssh.service}}, to: 192.0.2.1:22, expect: Deny}

to, from and listen also take a list; each entry is a case. A case may have a workload of its own; what
that leaves out is as in the document's.

A case that fails shows what was decided, by which rule, and why. With --untested a rule that decides no
case is a failure, too: nobody has asked whether it does what it is for.

Exit codes: 0 every case passed, 1 a case failed or a file is wrong, 2 the command line is wrong.`

// testFlags is what was asked.
type testFlags struct {
	policies []string
	run      string
	verbose  bool
	untested bool
	junit    string
}

// caseResult is one case of the answer.
type caseResult struct {
	File     string             `json:"file"`
	Line     int                `json:"line"`
	Name     string             `json:"name"`
	Who      string             `json:"who"`
	Call     string             `json:"call"`
	Passed   bool               `json:"passed"`
	Want     cases.Want         `json:"want"`
	Failures []string           `json:"failures,omitzero"`
	Got      *match.Explanation `json:"got,omitzero"` // of a case that failed
	Decision match.Decision     `json:"decision"`

	egress bool
}

// testResult is the answer of sallyport policy test.
type testResult struct {
	Passed   int          `json:"passed"`
	Failed   int          `json:"failed"`
	Cases    []caseResult `json:"cases"`
	Untested []string     `json:"untested"` // rules that decide no case
}

func (p Program) test() *cobra.Command {
	c := &cobra.Command{
		Use:   "test PATH…",
		Short: "Run test cases against policies",
		Long:  testHelp,
		Example: `  sallyport policy test checkout_test.yaml
  sallyport policy test --run 'shell|metadata' -v tests/
  sallyport policy test --policies rendered/ --junit report.xml tests/`,
		Args: someArgs,
	}
	var f testFlags
	flags := c.Flags()
	flags.StringSliceVar(&f.policies, "policies", nil, "files or folders with policies, instead of those that the test files name")
	flags.StringVar(&f.run, "run", "", "only cases whose name matches this regular expression")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show the cases that passed, too")
	flags.BoolVar(&f.untested, "untested", false, "fail also where a rule decides no case, and name it")
	flags.StringVar(&f.junit, "junit", "", "also write the result as JUnit's XML to this file")
	output := addOutput(c)
	*output = outputColumns
	c.Flags().Lookup("output").DefValue = string(outputColumns)
	c.RunE = func(_ *cobra.Command, paths []string) error {
		only, err := regexp.Compile(f.run)
		if err != nil {
			return usageError{fmt.Errorf("reading --run: %w", err)}
		}
		result, err := p.runTests(paths, f.policies, only)
		if err != nil {
			return err
		}
		if len(result.Cases) == 0 {
			return usageError{fmt.Errorf("no case has a name that matches %q", f.run)}
		}
		if f.junit != "" {
			if err := writeJUnit(f.junit, result); err != nil {
				return err
			}
		}
		if err := p.writeTests(result, f, output.json(p.Stdout)); err != nil {
			return err
		}
		if f.untested && len(result.Untested) > 0 {
			result.Failed += len(result.Untested)
		}
		if result.Failed > 0 {
			return findings(result.Failed)
		}
		return nil
	}
	return c
}

// someArgs refuses a command line without arguments.
func someArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s needs a file", c.CommandPath())}
	}
	return nil
}

// runTests runs the cases of files. All files must be right before a case is run, because one that
// was left out would look like one that passed.
func (p Program) runTests(paths, policies []string, only *regexp.Regexp) (testResult, error) {
	result := testResult{Cases: []caseResult{}, Untested: []string{}}
	var sets []cases.Set
	var errs []error
	paths, err := filesOf(paths)
	if err != nil {
		return result, err
	}
	for _, path := range paths {
		data, err := p.readFile(path)
		if err != nil {
			return result, err
		}
		more, err := cases.Parse(nameOf(path), data)
		errs = append(errs, err)
		sets = append(sets, more...)
	}
	if err := errors.Join(errs...); err != nil {
		return result, err
	}
	if len(sets) == 0 {
		return result, usageError{errors.New("there is no file with cases")}
	}
	all, decided := map[string]bool{}, map[string]bool{} // rules, and those that decide a case
	for i := range sets {
		set := &sets[i]
		from, err := policiesOf(set, policies)
		if err != nil {
			return result, err
		}
		in, err := p.rightPolicies(from)
		if err != nil {
			return result, err
		}
		for _, pol := range in {
			for r := range pol.Spec.Rules {
				all[pol.RuleName(&pol.Spec.Rules[r])] = true
			}
		}
		for _, r := range set.Run(in) {
			if only.MatchString(r.Case.Name) {
				result.add(&r)
				decided[r.Got.Decision.Rule] = true
			}
		}
	}
	maps.DeleteFunc(all, func(rule string, _ bool) bool { return decided[rule] })
	result.Untested = append(result.Untested, slices.Sorted(maps.Keys(all))...)
	return result, nil
}

// policiesOf returns the files and folders whose policies a set is about.
func policiesOf(set *cases.Set, instead []string) ([]string, error) {
	if instead != nil {
		return instead, nil
	}
	if len(set.Policies) == 0 {
		return nil, usageError{fmt.Errorf("%s:%d names no policies; give --policies", set.File, set.Line)}
	}
	out := make([]string, len(set.Policies))
	for i, name := range set.Policies {
		out[i] = name
		if !filepath.IsAbs(name) {
			out[i] = filepath.Join(filepath.Dir(set.File), name)
		}
	}
	return out, nil
}

func (t *testResult) add(r *cases.Result) {
	c := caseResult{
		File: r.Case.File, Line: r.Case.Line, Name: r.Case.Name, Who: r.Case.Who(), Call: r.Case.What(),
		Passed: r.Passed(), Want: r.Case.Want, Failures: r.Failures, Decision: r.Got.Decision,
		egress: r.Case.Call.Direction == policy.Egress,
	}
	if c.Passed {
		t.Passed++
	} else {
		t.Failed++
		c.Got = &r.Got
	}
	t.Cases = append(t.Cases, c)
}

func (p Program) writeTests(t testResult, f testFlags, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(p.Stdout).Encode(t); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		return nil
	}
	for i := range t.Cases {
		c := &t.Cases[i]
		switch {
		case !c.Passed:
			if err := writeFailure(p.Stdout, c); err != nil {
				return err
			}
		case f.verbose:
			fmt.Fprintln(p.Stdout, visible(fmt.Sprintf("ok    %s:%d: %s: %s", c.File, c.Line, c.Name, c.Decision.Verdict)))
		}
	}
	if f.untested {
		for _, rule := range t.Untested {
			fmt.Fprintln(p.Stdout, visible("untested  "+rule))
		}
	}
	fmt.Fprintf(p.Stdout, "%s, %d passed, %d failed\n", count(len(t.Cases), "case"), t.Passed, t.Failed)
	return nil
}

// writeFailure shows a case that failed: what differs, the decision in a sentence, and what the rules of
// its direction had to do with it.
func writeFailure(out io.Writer, c *caseResult) error {
	fmt.Fprintln(out, visible(fmt.Sprintf("FAIL  %s:%d: %s", c.File, c.Line, c.Name)))
	fmt.Fprintln(out, visible(fmt.Sprintf("      %s, %s", c.Who, c.Call)))
	for _, f := range c.Failures {
		fmt.Fprintln(out, visible("      "+f))
	}
	fmt.Fprintln(out, visible("      "+c.Got.Why))
	rules := newTable(out)
	for _, r := range c.Got.Rules {
		if r.Concerns && c.egress == (r.Direction == policy.Egress.String()) {
			rules.row("     ", mark(r), r.Rule, part(r), action(r), fmt.Sprintf("%s:%d", r.File, r.Line), r.Why)
		}
	}
	return rules.flush()
}

type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes the result in the form that CI systems show.
func writeJUnit(path string, t testResult) error {
	suite := junitSuite{Name: "sallyport policy test", Tests: len(t.Cases), Failures: t.Failed}
	for i := range t.Cases {
		c := &t.Cases[i]
		one := junitCase{Class: c.File, Name: c.Name, File: c.File, Line: c.Line}
		if !c.Passed {
			one.Failure = &junitFailure{Message: c.Failures[0], Text: c.Who + ", " + c.Call + "\n" + c.Got.Why}
		}
		suite.Cases = append(suite.Cases, one)
	}
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644) //nolint:gosec // a report is for everybody to read
	}
	if err != nil {
		return fmt.Errorf("writing --junit: %w", err)
	}
	return nil
}
