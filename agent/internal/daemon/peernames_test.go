package daemon

import (
	"net/netip"
	"testing"
	"time"
)

// A name is looked up once in a second for each container and peer, and not kept for ever more of them.
func TestPeerNames(t *testing.T) {
	t.Parallel()
	asked := 0
	names := map[peerOf]string{}
	p := newPeerNames(func(container uint64, peer netip.Addr) string {
		asked++
		return names[peerOf{container, peer}]
	})
	a, b, now := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), time.Unix(1000, 0)
	names[peerOf{7, a}] = "api.example"
	for _, c := range []struct {
		what      string
		container uint64
		peer      netip.Addr
		after     time.Duration
		name      string
		asked     int
	}{
		{"the first time", 7, a, 0, "api.example", 1},
		{"again", 7, a, peerNameAge - 1, "api.example", 1},
		{"a record of before", 7, a, -time.Millisecond, "api.example", 1},
		{"another container", 8, a, 0, "", 2},
		{"another peer", 7, b, 0, "", 3},
		{"none, again", 7, b, 1, "", 3},
		{"later", 7, a, peerNameAge, "api.example", 4},
		{"after the clock was set back", 7, a, -time.Hour, "api.example", 5},
	} {
		if got := p.of(c.container, c.peer, now.Add(c.after)); got != c.name || asked != c.asked {
			t.Errorf("%s: %q after %d looks, want %q after %d", c.what, got, asked, c.name, c.asked)
		}
	}
	for i := range 2 * maxPeerNames {
		p.of(uint64(i), a, now)
	}
	if len(p.kept) > maxPeerNames {
		t.Errorf("%d are kept", len(p.kept))
	}
}
