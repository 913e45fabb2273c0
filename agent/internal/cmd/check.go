package cmd

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

const checkHelp = `Check policies as the agent does before it puts them in force: every field must be known, every value
must make sense, and what the policies select must fit the kernel's tables.

PATH is a file, a folder (its *.yaml, *.yml and *.json) or - for standard input; without any it is the
agent's own folder. All errors are told, each with its place and what would be right.

What the language has and this version does not enforce yet is an error as well: a policy that is half
enforced would be worse than none. So is what asks for the cluster (selectors of peers, services, namespaces),
unless --cluster says that the agent reads its API (kube.enabled). With --language neither is: to check
policies for other versions, or examples.

Exit codes: 0 no errors, 1 errors were found, 2 the command line is wrong.`

// finding is one error of a policy.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Field   string `json:"field,omitzero"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitzero"`
	text    string
}

// checkResult is the answer of sallyport policy check.
type checkResult struct {
	Files    []string  `json:"files"`
	Policies []string  `json:"policies"` // namespace/name of those that are right
	Errors   []finding `json:"errors"`
}

func (p Program) check() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [PATH…]",
		Short: "Check policies as the agent does",
		Long:  checkHelp,
		Example: `  sallyport policy check ./policies
  kustomize build . | sallyport policy check -
  sallyport policy check --cluster ./manifests
  sallyport policy check --language contrib/policies
  sallyport policy check -o json ./policies | jq '.errors[]'`,
		Args: cobra.ArbitraryArgs,
	}
	// Text is the usual form of a checker in a pipe too: file:line:column for editors and CI.
	output := addOutput(c)
	*output = outputColumns
	c.Flags().Lookup("output").DefValue = string(outputColumns)
	cluster := c.Flags().Bool("cluster", false, "as an agent that reads the cluster's API (kube.enabled)")
	language := c.Flags().Bool("language", false, "do not demand that this version's agent enforces it all")
	c.RunE = func(c *cobra.Command, paths []string) error {
		if len(paths) == 0 {
			var err error
			if paths, err = defaultPolicies(c); err != nil {
				return err
			}
		}
		files, err := p.readPolicies(paths)
		if err != nil {
			return err
		}
		by := compile.Enforced{Scripts: true, World: *cluster} // on a kernel that has LSM or fmod_ret
		if *language {
			by = compile.Everything()
		}
		result := check(files, by)
		if err := p.writeCheck(result, output.json(p.Stdout)); err != nil {
			return err
		}
		if len(result.Errors) > 0 {
			return findings(len(result.Errors))
		}
		return nil
	}
	return c
}

// check gathers what is wrong with files, and with their policies together where they are judged by an agent
// that enforces so much.
func check(files []policy.File, by compile.Enforced) checkResult {
	result := checkResult{Files: []string{}, Policies: []string{}, Errors: []finding{}}
	var policies []*policy.Policy
	for _, f := range files {
		result.Files = append(result.Files, f.Name)
		result.Errors = append(result.Errors, parseFindings(f)...)
		policies = append(policies, f.Policies...)
	}
	_, err := by.Compile(policy.Input{Policies: policies, Workloads: examples(policies)})
	result.Errors = append(result.Errors, compileFindings(err)...)
	for _, p := range policies {
		result.Policies = append(result.Policies, p.Name())
	}
	return result
}

func parseFindings(f policy.File) []finding {
	var errs policy.Errors
	if !errors.As(f.Err, &errs) {
		if f.Err == nil {
			return nil
		}
		return []finding{{File: f.Name, Message: f.Err.Error(), text: f.Err.Error()}}
	}
	out := make([]finding, len(errs))
	for i, e := range errs {
		out[i] = finding{e.File, e.Line, e.Column, e.Field, e.Message, e.Hint, e.Error()}
	}
	return out
}

func compileFindings(err error) []finding {
	var errs compile.Errors
	if !errors.As(err, &errs) {
		if err == nil {
			return nil
		}
		return []finding{{Message: err.Error(), text: err.Error()}}
	}
	out := make([]finding, len(errs))
	for i, e := range errs {
		out[i] = finding{File: e.File, Line: e.Line, Message: e.Error(), text: e.Error()}
		if e.File != "" {
			out[i].text = fmt.Sprintf("%s:%d: %s", visible(e.File), e.Line, e.Error())
		}
	}
	return out
}

func (p Program) writeCheck(r checkResult, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(p.Stdout).Encode(r); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		return nil
	}
	for _, f := range r.Errors {
		fmt.Fprintln(p.Stdout, visible(f.text))
	}
	fmt.Fprintf(p.Stdout, "%s, %s, %s\n", count(len(r.Files), "file"), count(len(r.Policies), "policy"), count(len(r.Errors), "error"))
	return nil
}

// count says how many of something there are.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun == "policy" {
		noun = "policie"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
