package gate

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

func TestMain(m *testing.M) { inventory.Main(m) }
