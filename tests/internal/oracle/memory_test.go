package oracle

import (
	"testing"
	"unsafe"
)

// TestMemoryOfConnections: what the kernel keeps of a connection whose requests are read, beside what every governed
// socket has, is within the budget of the README.
func TestMemoryOfConnections(t *testing.T) {
	const tls = unsafe.Sizeof(KernelTlsConn{}) + unsafe.Sizeof(KernelTlsTie{})
	for _, c := range []struct {
		what          string
		bytes, budget uintptr
	}{
		{"HTTP/1 at the gate", unsafe.Sizeof(KernelRequests{}), 256},
		{"HTTP/1 in a tap on a TLS library", tls, 256},
		{"HTTP/2 in a tap on a TLS library", tls + unsafe.Sizeof(KernelH2{}), 8 << 10},
	} {
		t.Logf("%s: %d bytes", c.what, c.bytes)
		if c.bytes > c.budget {
			t.Errorf("%s: %d bytes are kept of a connection, more than %d", c.what, c.bytes, c.budget)
		}
	}
}
