package label

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// bytesOf is a command as it lies in the kernel's memory.
func bytesOf(p *bpfobj.ABIProbe) string {
	var b strings.Builder
	for i := range p.Len {
		b.WriteByte(byte(p.Args[i/8] >> (i % 8 * 8)))
	}
	return b.String()
}

func TestProbeValue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		argv []string
		want string
		ok   bool
	}{
		{name: "one", argv: []string{"cat"}, want: "cat\x00", ok: true},
		{name: "several, one of them empty", argv: []string{"sh", "", "-c"}, want: "sh\x00\x00-c\x00", ok: true},
		{name: "the longest", argv: []string{strings.Repeat("x", 511)}, want: strings.Repeat("x", 511) + "\x00", ok: true},
		{name: "too long", argv: []string{strings.Repeat("x", 512)}},
		{name: "none"},
		{name: "a NUL, which no argument can hold", argv: []string{"a\x00b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v, ok := probeValue(tc.argv)
			if ok != tc.ok {
				t.Fatalf("comparable: %t, want %t", ok, tc.ok)
			}
			if ok && bytesOf(v) != tc.want {
				t.Errorf("got %q, want %q", bytesOf(v), tc.want)
			}
		})
	}
}
