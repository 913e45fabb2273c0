package testutil

import (
	"os"
	"strconv"
	"testing"
)

// envFlood is how many of something tests of floods make, where it is not what every run can afford.
const envFlood = "FLOOD"

// Flood is how many of something a flood consists of: as many as FLOOD says, or else few, or in an emulated machine fewer still.
func Flood(t testing.TB, few, emulated int) int {
	t.Helper()
	if text := os.Getenv(envFlood); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", envFlood, err)
		}
		return n
	}
	if InVM() || testing.Short() {
		return emulated
	}
	return few
}
