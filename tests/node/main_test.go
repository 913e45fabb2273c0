// Package node holds the tests on a node as Kubernetes uses it: a containerd with its CRI plugin, runc and the CNI
// bridge, pods and execs made over the CRI, and the agent as an operator runs it. Everything lives in mount and network
// namespaces of the tests' own; PIDs, cgroups and the kernel programs are the machine's. They need root, and Debian's
// packages containerd, runc, containernetworking-plugins, iptables and busybox-static (contrib/tools/setup.sh node);
// containerd 2 is built once from the module in the folder containerd.
package node

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) { program.Main(m) }
