package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// compileSet compiles as many of the policies as can be in force together, and leaves those in in.Policies.
// A policy that something stands against keeps the version of accepted, the last set that compiled, or stays
// out when it has none there. Nothing that was in force is ever left out: where that does not do, it is all
// of accepted (fails closed). refused is what stands against the policies as they were given.
func compileSet(c *compile.Compiler, in *compile.Input, accepted []*policy.Policy) (tables *compile.Tables, refused, err error) {
	tables, refused = c.Compile(*in)
	if refused == nil {
		return tables, nil, nil
	}
	for err = refused; err != nil; {
		some, ok := withoutGuilty(in.Policies, accepted, err)
		if !ok {
			break
		}
		in.Policies = some
		tables, err = c.Compile(*in)
	}
	if err == nil {
		return tables, refused, nil
	}
	in.Policies = accepted
	tables, err = c.Compile(*in)
	if err != nil {
		return nil, refused, fmt.Errorf("compiling the policies: %w", err)
	}
	return tables, refused, nil
}

// withoutGuilty replaces the policies that the errors name by their accepted versions, or leaves them out. ok
// is false when that would change nothing, or take away what was accepted.
func withoutGuilty(policies, accepted []*policy.Policy, err error) (out []*policy.Policy, ok bool) {
	errs, all := errors.AsType[compile.Errors](err)
	if !all {
		return nil, false
	}
	guilty := map[string]bool{}
	for _, e := range errs {
		guilty[e.Policy] = true // "": of no policy, which no change of one mends
	}
	former := map[string]*policy.Policy{}
	for _, p := range accepted {
		former[p.Name()] = p
	}
	for _, p := range policies {
		before := former[p.Name()]
		switch {
		case !guilty[p.Name()]:
			out = append(out, p)
		case before == p:
			return nil, false
		case before != nil && !slices.Contains(out, before):
			out, ok = append(out, before), true
		default:
			ok = true
		}
	}
	return out, ok && !guilty[""]
}

// refusal is what stands against one policy, on one line; "" if nothing does. An error that names no policy
// stands against all.
func refusal(err error, name string) string {
	errs, ok := errors.AsType[compile.Errors](err)
	if !ok {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	var lines []string
	for _, e := range errs {
		if e.Policy == "" || e.Policy == name {
			lines = append(lines, e.Error())
		}
	}
	return strings.Join(lines, "; ")
}
