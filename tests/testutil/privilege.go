// Package testutil owns the few things that every privileged test needs: whether it may run here, and whether a
// feature this kernel lacks is a skip or a failure. It imports the standard library only, so that any test package
// can use it.
package testutil

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The environment that decides between a skip and a failure.
const (
	envRequire = "REQUIRE_PRIVILEGED" // "1": a privileged test that cannot run is a failure (CI)
	envAllow   = "ALLOW_UNSUPPORTED"  // comma-separated features whose absence stays a skip all the same
	envVM      = "VMRUN"              // "1": the guest that tests/vm/vmrun booted for this test binary
)

// RequireRoot returns if the test runs as root (effective uid 0). Otherwise it skips the test, or fails it when
// REQUIRE_PRIVILEGED=1.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if required() {
		t.Fatalf("needs root, and %s=1 forbids to skip it", envRequire)
	}
	t.Skip("needs root")
}

// InVM reports whether the test runs in a guest that tests/vm/vmrun booted. A test there owns the whole machine:
// it may change cgroups, sysctls and interfaces without cleaning up.
func InVM() bool { return os.Getenv(envVM) == "1" }

// Unsupported ends a test because this machine has no feature, for reason. It skips, or fails the test when
// REQUIRE_PRIVILEGED=1 unless feature is listed in ALLOW_UNSUPPORTED (comma-separated). It does not return.
func Unsupported(t testing.TB, feature, reason string) {
	t.Helper()
	if required() && !slices.Contains(strings.Split(os.Getenv(envAllow), ","), feature) {
		t.Fatalf("%s is not supported here: %s (%s=1, and %s does not list %s)", feature, reason, envRequire, envAllow, feature)
	}
	t.Skipf("%s is not supported here: %s", feature, reason)
}

func required() bool { return os.Getenv(envRequire) == "1" }
