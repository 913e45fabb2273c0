// Package agent holds the tests of the agent as an operator runs it: the real program, a real containerd with runc, a pod
// with a network of its own, and servers that record what arrives. They need root, and Debian's packages containerd,
// runc and busybox-static; where there is no Go and no C compiler, SALLYPORT_BINARY and SALLYPORT_VICTIM name programs
// that were built before.
package agent

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) { program.Main(m) }
