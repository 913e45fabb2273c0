package decode

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// rawRequest is a record as the kernel would write it, with the texts in their order.
func rawRequest(t testing.TB, kind event.Kind, r bpfobj.ABIEvRequest, texts ...string) []byte {
	t.Helper()
	for i, text := range texts {
		r.Len[i] = uint16(len(text))
	}
	b := raw(t, kind, r, &bpfobj.ABIEvHeader{KtimeNs: 5})
	b = append(b, strings.Join(texts, "")...)
	b[12], b[13], b[14], b[15] = byte(len(b)), byte(len(b)>>8), 0, 0
	return b
}

func TestRecordReadsARequest(t *testing.T) {
	t.Parallel()
	r := bpfobj.ABIEvRequest{
		Rule: 7, Revision: 9, Netns: 3, Socket: 4, LocalPort: 4000, RemotePort: 80, Direction: 1, Verdict: uint8(event.VerdictDeny),
		Reason: uint8(event.ReasonRule), Severity: 2, Step: uint8(event.StepGate),
	}
	r.Remote, r.Local = netip.MustParseAddr("::ffff:192.0.2.1").As16(), netip.MustParseAddr("2001:db8::1").As16()
	r.Task.Origin, r.Task.Tgid = uint32(event.OriginExec), 42
	copy(r.Task.Comm[:], "curl")
	got, err := Decoder{Clock: clock}.Record(rawRequest(t, event.KindRequest, r, "/usr/bin/curl", "", "GET", "/a\xff", strings.Repeat("h", 256)))
	if err != nil {
		t.Fatal(err)
	}
	want := event.Event{
		Asked: 5,
		Kind:  event.KindRequest, Time: time.Unix(0, 5), Rule: 7, Revision: 9, NetNS: 3, Socket: 4,
		Subject: event.Subject{Origin: event.OriginExec, PID: 42, Exe: "/usr/bin/curl", Comm: "curl"},
		Local:   netip.MustParseAddrPort("[2001:db8::1]:4000"), Remote: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: 6,
		Call: event.CallPacketIn, Step: event.StepGate, Verdict: event.VerdictDeny, Reason: event.ReasonRule, Severity: event.SeverityCritical,
		Method: "GET", Path: "/a\xff", Host: strings.Repeat("h", 256),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// The query and named headers are told by a list of names: those of another have none.
func TestRecordReadsDetails(t *testing.T) {
	t.Parallel()
	record := rawRequest(t, event.KindRequest, bpfobj.ABIEvRequest{Headers: 7}, "/a", "", "GET", "/", "h", "q=1", "a \t", "", "", "")
	const lens = int(unsafe.Offsetof(bpfobj.ABIEvRequest{}.Len))
	for i, flags := range map[int]int{5: textThere | textCut, 6: textThere, 7: textThere, 8: textCut} {
		at := lens + 2*i
		binary.LittleEndian.PutUint16(record[at:], binary.LittleEndian.Uint16(record[at:])|uint16(flags))
	}
	names := []string{"one", "two", "three", "four"}
	got, err := Decoder{Clock: clock, Headers: Headers{ID: 7, Names: names}}.Record(record)
	want := []event.Header{{Name: "one", Value: "a", There: true}, {Name: "two", There: true}, {Name: "three", Cut: true}}
	if err != nil || got.URLQuery != "q=1" || !got.URLQueryCut || !slices.Equal(got.Headers, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = (Decoder{Clock: clock, Headers: Headers{ID: 8, Names: names}}).Record(record); err != nil || got.Headers != nil {
		t.Errorf("by another list: %+v, %v", got, err)
	}
}

func TestRecordReadsWhatAHelloOffers(t *testing.T) {
	t.Parallel()
	for flags, want := range map[bpfobj.ABIHelloFlags]event.Event{
		bpfobj.ABIHelloFlagsHELLO_NAMED: {},
		bpfobj.ABIHelloFlagsHELLO_ALPN | bpfobj.ABIHelloFlagsHELLO_HTTP1 | bpfobj.ABIHelloFlagsHELLO_HTTP2:     {ALPN: event.ALPNHTTP1 | event.ALPNHTTP2},
		bpfobj.ABIHelloFlagsHELLO_ALPN | bpfobj.ABIHelloFlagsHELLO_OTHER | bpfobj.ABIHelloFlagsHELLO_ENCRYPTED: {ALPN: event.ALPNOther, Encrypted: true},
	} {
		got, err := Decoder{Clock: clock}.Record(rawRequest(t, event.KindHello, bpfobj.ABIEvRequest{Hello: uint8(flags)}, "/a", "", "", "", "a.example"))
		if err != nil || got.ALPN != want.ALPN || got.Encrypted != want.Encrypted || got.Host != "a.example" {
			t.Errorf("%d: %+v, %v", flags, got, err)
		}
	}
}

// A record whose texts are not all there, or longer than they can be, is none.
func TestRecordRefusesTextsThatAreNotThere(t *testing.T) {
	t.Parallel()
	fixed := int(unsafe.Sizeof(bpfobj.ABIEvRequest{}))
	whole := rawRequest(t, event.KindRequest, bpfobj.ABIEvRequest{}, "/a", "/b", "GET", "/", "host")
	long := rawRequest(t, event.KindRequest, bpfobj.ABIEvRequest{}, "/a", "", "", strings.Repeat("x", 257))
	for _, b := range [][]byte{whole[:len(whole)-1], whole[:fixed], whole[:fixed-1], long} {
		if got, err := (Decoder{Clock: clock}).Record(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of %d: %+v, %v", len(b), len(whole), got, err)
		}
	}
}

// BenchmarkRequest is what the record of a request takes to read.
func BenchmarkRequest(b *testing.B) {
	record := rawRequest(b, event.KindRequest, bpfobj.ABIEvRequest{}, "/usr/bin/wrk", "", "GET", "/items/1", "198.51.100.1:8080")
	for b.Loop() {
		if _, err := (Decoder{Clock: clock}).Record(record); err != nil {
			b.Fatal(err)
		}
	}
}
