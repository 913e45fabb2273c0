package maps

import (
	"testing"

	"github.com/sallyport/sallyport/probes"
)

// TestConnectionsAreSmall: what is kept of a connection with requests is within what README.md says of it, in bytes.
func TestConnectionsAreSmall(t *testing.T) {
	t.Parallel()
	sizes := map[string]uint32{}
	for _, o := range probes.Objects() {
		spec, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range spec.Maps {
			sizes[name] = m.ValueSize
		}
	}
	for _, c := range []struct {
		name string
		maps []string
		most uint32
	}{
		{"over HTTP/1", []string{"requests_by_sock"}, 256},
		{"over HTTP/2 that leaves", []string{"requests_by_sock", "h2_by_sock"}, 5680},
		{"over HTTP/2 that comes in", []string{"requests_by_sock", "h2_by_sock", "h2_before_by_sock"}, 7008},
	} {
		var size uint32
		for _, name := range c.maps {
			if sizes[name] == 0 {
				t.Errorf("there is no map %s", name)
			}
			size += sizes[name]
		}
		if size > c.most {
			t.Errorf("of a connection %s are kept %d bytes, more than %d", c.name, size, c.most)
		}
	}
}
