package policy_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/policy"
)

func TestParseCall(t *testing.T) {
	for text, want := range map[string]policy.Call{
		"192.0.2.1:443":       {Protocol: 6, Peer: netip.MustParseAddr("192.0.2.1"), Port: 443},
		"192.0.2.1:53/UDP":    {Protocol: 17, Peer: netip.MustParseAddr("192.0.2.1"), Port: 53},
		"[2001:db8::1]:9/132": {Protocol: 132, Peer: netip.MustParseAddr("2001:db8::1"), Port: 9},
		"192.0.2.1/ICMP":      {Protocol: 1, Peer: netip.MustParseAddr("192.0.2.1")},
		"2001:db8::1/ICMPv6":  {Protocol: 58, Peer: netip.MustParseAddr("2001:db8::1")},
		"192.0.2.1/47":        {Protocol: 47, Peer: netip.MustParseAddr("192.0.2.1")},
	} {
		got, err := policy.ParseCall(text)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if again, err := policy.ParseCall(got.String()); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s was written as %s, which is %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "192.0.2.1", "example.com:443", "192.0.2.1:443/HTTP", "192.0.2.1:443/ANY", "192.0.2.1:70000", "192.0.2.1/300"} {
		if got, err := policy.ParseCall(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestParseListen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]policy.Call{
		"8080/TCP": {Direction: policy.Ingress, Protocol: 6, Port: 8080, Listen: true},
		"53/UDP":   {Direction: policy.Ingress, Protocol: 17, Port: 53, Listen: true},
		"8080":     {Direction: policy.Ingress, Protocol: 6, Port: 8080, Listen: true},
	} {
		if got, err := policy.ParseListen(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/TCP", "65536/TCP", "80/HTTP", "192.0.2.1:80/TCP"} {
		if got, err := policy.ParseListen(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func FuzzParseCall(f *testing.F) {
	for _, seed := range []string{"192.0.2.1:443/TCP", "[2001:db8::1]:53/UDP", "[fe80::1%eth0]/ICMPv6", "192.0.2.1/47", "0.0.0.0:0/UDP", "[::]:1/255"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := policy.ParseCall(text)
		if err != nil {
			return
		}
		if again, err := policy.ParseCall(c.String()); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q was written as %s, which is %+v, %v", text, c, again, err)
		}
	})
}
