package compile

import (
	"github.com/sallyport/sallyport/policy"
)

type (
	// Input is what is compiled. match is asked with the same.
	Input = policy.Input
	// Workload is one container that policies can select.
	Workload = policy.Workload
	// Node is the machine whose addresses the entity host stands for.
	Node = policy.Node
)

// Compile turns policies into the tables that the kernel walks. Its error is an Errors with everything
// that stands against it; then there are no tables, and the caller keeps those it had (fails closed).
func Compile(in Input) (*Tables, error) { return Enforced{}.Compile(in) }

// Compile compiles for somebody who can judge by more than the kernel does.
func (e Enforced) Compile(in Input) (*Tables, error) { return NewCompiler(e).Compile(in) }
