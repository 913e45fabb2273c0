package main

import (
	"math"
	"testing"
)

// TestCounterIsMeasured holds that two measurements agree, as the guest clock's truth depends on one.
func TestCounterIsMeasured(t *testing.T) {
	t.Parallel()
	if tscNow() == 0 {
		t.Skip("this processor has no time stamp counter")
	}
	a, b := float64(tscKHz()), float64(tscKHz())
	if a < 1e5 || a > 1e8 || math.Abs(a-b)/a > 0.01 {
		t.Errorf("%.0f and %.0f kHz", a, b)
	}
}
