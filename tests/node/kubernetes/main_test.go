package kubernetes

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) { program.Main(m) }
