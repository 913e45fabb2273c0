// Package features holds what the agent does on kernels that lack something: the real program on stock kernels in guests, of
// which things are taken away, and containers made by hand. features.md is the table.
package features

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) { program.Main(m) }
