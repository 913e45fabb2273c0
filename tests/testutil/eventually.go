package testutil

import (
	"testing"
	"time"
)

// patience is how long Eventually waits: far more than anything takes on a slow machine. In a guest the verifier alone
// is at work for half a minute before an agent has its programs.
func patience() time.Duration {
	if InVM() {
		return 3 * time.Minute
	}
	return time.Minute
}

// Eventually repeats try until it returns nil, and fails the test with its last error if it never does.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	wait, deadline := time.Millisecond, time.Now().Add(patience())
	for ; ; wait = min(2*wait, 100*time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still after %v: %v", what, patience(), err)
		}
		time.Sleep(wait)
	}
}
