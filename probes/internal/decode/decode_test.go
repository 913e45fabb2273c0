package decode

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

func clock(ns uint64) time.Time { return time.Unix(0, int64(ns)) }

// raw is the record as the kernel would write it.
func raw[T any](t testing.TB, kind event.Kind, record T, header *bpfobj.ABIEvHeader) []byte {
	t.Helper()
	size := unsafe.Sizeof(record)
	header.Version, header.Kind, header.Len = uint16(bpfobj.ABILimitsABI_VERSION), uint16(kind), uint32(size)
	b := make([]byte, size)
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(&record)), size))
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(header)), unsafe.Sizeof(*header)))
	return b
}

func TestRecordDecodesACall(t *testing.T) {
	t.Parallel()
	r := bpfobj.ABIEvCall{
		Rule: 7, Revision: 9, Netns: 3, Remote: netip.MustParseAddr("::ffff:192.0.2.1").As16(), RemotePort: 443,
		Family: 2, Type: 1, Protocol: 6, Call: 1, Step: 1, Verdict: 3, Reason: 1, Severity: 2, HasRemote: 1,
	}
	r.Subject.Task.Origin, r.Subject.Task.Tgid, r.Subject.Task.Session = uint32(event.OriginExec), 42, 5
	copy(r.Subject.Exe[:], "/bin/sh")
	for i := range r.Subject.Script {
		r.Subject.Script[i] = 'x' // no terminator
	}
	got, err := Decoder{Clock: clock}.Record(raw(t, event.KindConnect, r, &bpfobj.ABIEvHeader{KtimeNs: 12}))
	if err != nil {
		t.Fatal(err)
	}
	script := make([]byte, len(r.Subject.Script))
	for i := range script {
		script[i] = 'x'
	}
	want := event.Event{
		Kind: event.KindConnect, Time: time.Unix(0, 12), Rule: 7, Revision: 9, NetNS: 3,
		Subject: event.Subject{Origin: event.OriginExec, PID: 42, Session: 5, Exe: "/bin/sh", Script: string(script)},
		Remote:  netip.MustParseAddrPort("192.0.2.1:443"), Family: 2, Type: 1, Protocol: 6,
		Call: event.CallConnect, Step: event.StepLSM, Verdict: event.VerdictDeny, Reason: event.ReasonRule, Severity: event.SeverityCritical,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestRecordSplitsArguments(t *testing.T) {
	t.Parallel()
	r := bpfobj.ABIEvExec{ArgsLen: 9}
	copy(r.Args[:], "sh\x00-c\x00ls\x00")
	got, err := Decoder{Clock: clock}.Record(raw(t, event.KindExec, r, &bpfobj.ABIEvHeader{}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sh", "-c", "ls"}, got.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}

func TestRecordReadsWaitStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status, signal uint32
		code           int32
	}{{0, 0, 0}, {3 << 8, 0, 3}, {9, 9, 0}, {0x8b, 11, 0}} {
		got, err := Decoder{Clock: clock}.Record(raw(t, event.KindExit, bpfobj.ABIEvExit{Status: tc.status}, &bpfobj.ABIEvHeader{}))
		if err != nil {
			t.Fatal(err)
		}
		if got.Signal != tc.signal || got.ExitCode != tc.code {
			t.Errorf("status %#x: signal %d code %d, want %d %d", tc.status, got.Signal, got.ExitCode, tc.signal, tc.code)
		}
	}
}

func TestRecordKnowsBothSidesOfABorrow(t *testing.T) {
	t.Parallel()
	r := bpfobj.ABIEvBorrow{Revision: 4, Call: uint8(event.CallTrace), Step: 1, Verdict: uint8(event.VerdictDeny)}
	r.Subject.Task.Origin, r.Target.Task.Origin, r.Target.Task.Tgid = uint32(event.OriginExec), uint32(event.OriginMain), 7
	copy(r.Target.Exe[:], "/srv/app")
	got, err := Decoder{Clock: clock}.Record(raw(t, event.KindBorrow, r, &bpfobj.ABIEvHeader{}))
	if err != nil {
		t.Fatal(err)
	}
	want := event.Event{
		Kind: event.KindBorrow, Time: time.Unix(0, 0), Revision: 4, Call: event.CallTrace, Step: event.StepLSM,
		Verdict: event.VerdictDeny, Reason: event.ReasonBorrow, Severity: event.SeverityCritical,
		Subject: event.Subject{Origin: event.OriginExec},
		Target:  &event.Subject{Origin: event.OriginMain, PID: 7, Exe: "/srv/app"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	r.Call = uint8(event.CallLocal)
	if got, err = (Decoder{Clock: clock}).Record(raw(t, event.KindBorrow, r, &bpfobj.ABIEvHeader{})); err != nil || got.Severity != event.SeverityWarning {
		t.Errorf("asking over a unix socket is of severity %d, %v, want a warning", got.Severity, err)
	}
}

func TestRecordKnowsWhatTheAgentIsProtectedFrom(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		call   event.Call
		detail uint32
		signal uint32
		site   string
	}{{event.CallSignal, 9, 9, ""}, {event.CallBPF, 7, 0, "BPF_OBJ_GET"}, {event.CallBPF, 99, 0, "99"}, {event.CallTrace, 2, 0, ""}} {
		r := bpfobj.ABIEvTamper{Revision: 4, Detail: tc.detail, Call: uint8(tc.call), Step: 2, Verdict: uint8(event.VerdictAudit), Would: uint8(event.VerdictDeny)}
		r.Subject.Task.Tgid = 7
		got, err := Decoder{Clock: clock}.Record(raw(t, event.KindTamper, r, &bpfobj.ABIEvHeader{}))
		if err != nil {
			t.Fatal(err)
		}
		want := event.Event{
			Kind: event.KindTamper, Time: time.Unix(0, 0), Revision: 4, Call: tc.call, Step: event.StepModRet, Signal: tc.signal, Site: tc.site,
			Verdict: event.VerdictAudit, Would: event.VerdictDeny, Reason: event.ReasonProtected, Severity: event.SeverityCritical,
			Subject: event.Subject{PID: 7},
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
}

func TestRecordReadsKernelTLS(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		verdict event.Verdict
		step    event.Step
		reason  event.Reason
		loud    event.Severity
		tapped  bool
	}{
		{event.VerdictNone, event.StepNone, event.ReasonNone, event.SeverityInfo, false},
		{event.VerdictDeny, event.StepCgroup, event.ReasonOpaque, event.SeverityWarning, false},
		{event.VerdictDeny, event.StepLSM, event.ReasonOpaque, event.SeverityInfo, true},
	} {
		r := bpfobj.ABIEvKtls{
			Revision: 4, Netns: 5, Remote: netip.MustParseAddr("::ffff:192.0.2.1").As16(), RemotePort: 443,
			Part: uint8(bpfobj.ABIKtlsPartKTLS_RX), Step: uint8(tc.step), Verdict: uint8(tc.verdict),
		}
		r.Suite.Version, r.Suite.Cipher, r.Subject.Task.Tgid = 0x304, 52, 7
		if tc.tapped {
			r.Tapped = 1
		}
		got, err := Decoder{Clock: clock}.Record(raw(t, event.KindKTLS, r, &bpfobj.ABIEvHeader{}))
		if err != nil {
			t.Fatal(err)
		}
		want := event.Event{
			Kind: event.KindKTLS, Time: time.Unix(0, 0), Revision: 4, NetNS: 5, Protocol: 6, Call: event.CallOption, Step: tc.step, Verdict: tc.verdict,
			Reason: tc.reason, Severity: tc.loud, Subject: event.Subject{PID: 7}, Remote: netip.MustParseAddrPort("192.0.2.1:443"),
			KTLS: event.KTLS{Part: event.KTLSReceive, Version: 0x304, Cipher: 52, Tapped: tc.tapped},
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
}

func TestRecordReadsDNS(t *testing.T) {
	t.Parallel()
	r := bpfobj.ABIEvDns{
		Rule: 7, Packets: 3, Type: 28, IsAnswer: 1, Rcode: 5, Addresses: 9, Verdict: uint8(event.VerdictDrop), Reason: uint8(event.ReasonUnasked),
		LocalPort: 4000, RemotePort: 53,
	}
	copy(r.Name[:], "a\xff.example")
	copy(r.Remote[:], netip.MustParseAddr("2001:db8::53").AsSlice())
	got, err := Decoder{Clock: clock}.Record(raw(t, event.KindDNS, r, &bpfobj.ABIEvHeader{}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Query != "a\xff.example" || got.QType != 28 || !got.Answer || got.RCode != 5 || got.Told != 9 || got.Packets != 3 || got.Rule != 7 ||
		got.Verdict != event.VerdictDrop || got.Reason != event.ReasonUnasked || got.Remote != netip.MustParseAddrPort("[2001:db8::53]:53") {
		t.Errorf("got %+v", got)
	}
	for i := range r.Name {
		r.Name[i] = 'x' // without a terminator
	}
	if got, err = (Decoder{Clock: clock}).Record(raw(t, event.KindDNS, r, &bpfobj.ABIEvHeader{})); err != nil || len(got.Query) != len(r.Name) {
		t.Errorf("a name of all bytes: %d, %v", len(got.Query), err)
	}
}

func TestRecordRefusesOtherVersions(t *testing.T) {
	t.Parallel()
	b := raw(t, event.KindExit, bpfobj.ABIEvExit{}, &bpfobj.ABIEvHeader{})
	binary.LittleEndian.PutUint16(b[8:], 99)
	if _, err := (Decoder{Clock: clock}).Record(b); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}

// FuzzRecord holds that any bytes give an event or an error, never both and never a panic.
func FuzzRecord(f *testing.F) {
	for kind := range uint16(event.KindResponse) + 2 {
		b := make([]byte, unsafe.Sizeof(bpfobj.ABIEvRequest{})+64)
		binary.LittleEndian.PutUint16(b[8:], uint16(bpfobj.ABILimitsABI_VERSION))
		binary.LittleEndian.PutUint16(b[10:], kind)
		f.Add(b)
		f.Add(b[:40])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Decoder{Clock: clock}.Record(b)
		if err != nil {
			if !cmp.Equal(got, event.Event{}, cmpopts.EquateComparable(netip.AddrPort{})) {
				t.Errorf("an error and an event: %v, %+v", err, got)
			}
			return
		}
		if len(got.Subject.Exe) > int(bpfobj.ABILimitsEXE_LEN) || len(got.Args) > int(bpfobj.ABILimitsARGS_LEN)+1 {
			t.Errorf("text is longer than the record can hold: %+v", got)
		}
	})
}
