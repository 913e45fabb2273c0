// Package decode turns ring-buffer records into events. Records are checked for version and length
// and never trusted for termination of text: what they carry comes from workloads. It imports
// probes/event and bpfobj only.
package decode

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// ErrMalformed means that a record is not one of this agent's programs: too short, of another ABI
// version, or of no known kind.
var ErrMalformed = errors.New("malformed record")

// Clock turns nanoseconds of CLOCK_BOOTTIME into wall clock time.
type Clock func(bootNS uint64) time.Time

// Decoder reads records.
type Decoder struct {
	Clock   Clock
	Headers Headers
}

// Headers are those that are told of requests.
type Headers struct {
	ID    uint32 // of this list: records that have another have other headers
	Names []string
}

// Record decodes one record, little endian as bpf/include/abi/event.h lays it out. It returns an
// event or an error wrapping ErrMalformed, never both.
func (d Decoder) Record(raw []byte) (event.Event, error) {
	var header bpfobj.ABIEvHeader
	if err := read(raw, &header); err != nil {
		return event.Event{}, err
	}
	if header.Version != uint16(bpfobj.ABILimitsABI_VERSION) || int(header.Len) > len(raw) {
		return event.Event{}, fmt.Errorf("%w: version %d, length %d of %d", ErrMalformed, header.Version, header.Len, len(raw))
	}
	e := event.Event{Kind: event.Kind(header.Kind), Time: d.Clock(header.KtimeNs)}
	var err error
	switch e.Kind {
	case event.KindExec, event.KindSessionStart:
		err = exec(raw, &e)
	case event.KindExit, event.KindSessionEnd:
		err = exit(raw, &e)
	case event.KindConnect, event.KindListen, event.KindSocket, event.KindFlow, event.KindForeign:
		err = call(raw, &e)
	case event.KindCgroup:
		err = cgroup(raw, &e)
	case event.KindBorrow:
		err = borrow(raw, &e)
	case event.KindTamper:
		err = tamper(raw, &e)
	case event.KindDNS:
		err = dns(raw, &e)
	case event.KindRequest, event.KindHello:
		err = request(raw, &e, d.Headers)
	case event.KindKTLS:
		err = ktls(raw, &e)
	case event.KindResponse:
		err = response(raw, &e)
	case event.KindLost, event.KindLate: // made in user space only
		err = fmt.Errorf("%w: kind %d", ErrMalformed, header.Kind)
	default:
		err = fmt.Errorf("%w: kind %d", ErrMalformed, header.Kind)
	}
	if err != nil {
		return event.Event{}, err
	}
	return e, nil
}

// read copies the beginning of raw into a generated struct of host layout without pointers.
func read[T any](raw []byte, to *T) error {
	size := int(unsafe.Sizeof(*to))
	if len(raw) < size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(raw), size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(to)), size), raw) //nolint:gosec // plain data of a fixed size
	return nil
}

// text is what stands before the first NUL, or all of it.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func subject(s *bpfobj.ABIEvSubject) event.Subject {
	out := task(&s.Task)
	out.Exe, out.Script = text(s.Exe[:]), text(s.Script[:])
	return out
}

func task(t *bpfobj.ABIEvTask) event.Subject {
	origin := event.Origin(t.Origin)
	if t.Origin > uint32(event.OriginHost) {
		origin = event.OriginUnknown
	}
	return event.Subject{
		Container: t.Container,
		Session:   t.Session,
		Exec:      t.Exec,
		PID:       t.Tgid,
		TID:       t.Tid,
		UID:       t.Uid,
		Origin:    origin,
		Inferred:  t.Flags&uint32(bpfobj.ABILabelFlagsLABEL_INFERRED) != 0,
		Truncated: t.Flags&uint32(bpfobj.ABILabelFlagsLABEL_TRUNCATED) != 0,
		Drifted:   t.Flags&uint32(bpfobj.ABILabelFlagsLABEL_DRIFTED) != 0,
		Comm:      text(t.Comm[:]),
	}
}

func exec(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvExec
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = subject(&r.Subject)
	args := r.Args[:min(int(r.ArgsLen), len(r.Args))]
	args = bytes.TrimSuffix(args, []byte{0})
	if len(args) > 0 {
		for a := range bytes.SplitSeq(args, []byte{0}) {
			e.Args = append(e.Args, string(a))
		}
	}
	return nil
}

func exit(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvExit
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = subject(&r.Subject)
	// wait(2): the low seven bits are the signal, the next byte the exit code.
	e.Signal = r.Status & 0x7f
	e.ExitCode = int32(r.Status >> 8 & 0xff)
	return nil
}

func call(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvCall
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = subject(&r.Subject)
	e.Rule, e.Revision, e.NetNS = r.Rule, r.Revision, r.Netns
	e.Packets, e.Bytes, e.Ifindex = r.Packets, r.Bytes, r.Ifindex
	e.Family, e.Type, e.Protocol = r.Family, r.Type, uint16(r.Protocol)
	e.Call, e.Step = event.Call(r.Call), event.Step(r.Step)
	e.Verdict, e.Would = event.Verdict(r.Verdict), event.Verdict(r.Would)
	e.Reason, e.Severity = event.Reason(r.Reason), event.Severity(r.Severity)
	e.Local = endpoint(r.Local, r.LocalPort)
	if r.HasRemote != 0 {
		e.Remote = endpoint(r.Remote, r.RemotePort)
	}
	return nil
}

func borrow(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvBorrow
	if err := read(raw, &r); err != nil {
		return err
	}
	target := subject(&r.Target)
	e.Subject, e.Target = subject(&r.Subject), &target
	e.Revision, e.Reason = r.Revision, event.ReasonBorrow
	e.Call, e.Step = event.Call(r.Call), event.Step(r.Step)
	e.Verdict, e.Would = event.Verdict(r.Verdict), event.Verdict(r.Would)
	e.Severity = event.SeverityCritical
	if e.Call == event.CallLocal {
		e.Severity = event.SeverityWarning // it may be meant so
	}
	return nil
}

func tamper(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvTamper
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject, e.Revision, e.Reason, e.Severity = subject(&r.Subject), r.Revision, event.ReasonProtected, event.SeverityCritical
	e.Call, e.Step = event.Call(r.Call), event.Step(r.Step)
	e.Verdict, e.Would = event.Verdict(r.Verdict), event.Verdict(r.Would)
	switch e.Call {
	case event.CallSignal:
		e.Signal = r.Detail
	case event.CallBPF:
		e.Site = bpfCommand(r.Detail)
	default: // the call says it all
	}
	return nil
}

// bpfCommand is the name of a command of bpf that is judged, else its number.
func bpfCommand(cmd uint32) string {
	switch cmd {
	case unix.BPF_PROG_LOAD:
		return "BPF_PROG_LOAD"
	case unix.BPF_OBJ_GET:
		return "BPF_OBJ_GET"
	case unix.BPF_PROG_GET_FD_BY_ID:
		return "BPF_PROG_GET_FD_BY_ID"
	case unix.BPF_MAP_GET_FD_BY_ID:
		return "BPF_MAP_GET_FD_BY_ID"
	case unix.BPF_LINK_GET_FD_BY_ID:
		return "BPF_LINK_GET_FD_BY_ID"
	}
	return strconv.FormatUint(uint64(cmd), 10)
}

func dns(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvDns
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = subject(&r.Subject)
	e.Rule, e.Revision, e.NetNS, e.Packets = r.Rule, r.Revision, r.Netns, r.Packets
	e.Local, e.Remote = endpoint(r.Local, r.LocalPort), endpoint(r.Remote, r.RemotePort)
	e.Protocol, e.Step = unix.IPPROTO_UDP, event.StepGate
	e.Verdict, e.Would = event.Verdict(r.Verdict), event.Verdict(r.Would)
	e.Reason, e.Severity = event.Reason(r.Reason), event.Severity(r.Severity)
	e.Query, e.QType, e.Answer, e.RCode, e.Told = text(r.Name[:]), r.Type, r.IsAnswer != 0, r.Rcode, r.Addresses
	return nil
}

func ktls(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvKtls
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject, e.Revision, e.NetNS = subject(&r.Subject), r.Revision, r.Netns
	e.Local, e.Remote = endpoint(r.Local, r.LocalPort), endpoint(r.Remote, r.RemotePort)
	e.Protocol, e.Call, e.Step, e.Verdict = unix.IPPROTO_TCP, event.CallOption, event.Step(r.Step), event.Verdict(r.Verdict)
	if e.Verdict != event.VerdictNone {
		e.Reason = event.ReasonOpaque
		if r.Tapped == 0 {
			e.Severity = event.SeverityWarning // a library without a tap, or a program that goes past those with one
		}
	}
	e.KTLS = event.KTLS{Part: event.KTLSPart(r.Part), Version: r.Suite.Version, Cipher: r.Suite.Cipher, Tapped: r.Tapped != 0}
	return nil
}

// response decodes the answer to a request. One that was before its question is of another clock: it took no time.
func response(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvResponse
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = subject(&r.Subject)
	e.NetNS, e.Asked, e.Status = r.Netns, r.AskedNs, r.Status
	e.Local, e.Remote = endpoint(r.Local, r.LocalPort), endpoint(r.Remote, r.RemotePort)
	e.Protocol, e.Step, e.Call = unix.IPPROTO_TCP, event.Step(r.Step), requestCall(r.Direction)
	if told := r.Header.KtimeNs; told > r.AskedNs {
		e.Latency = time.Duration(told - r.AskedNs)
	}
	return nil
}

// endpoint unmaps IPv4; an all-zero address with no port is no endpoint.
func endpoint(addr [16]byte, port uint16) netip.AddrPort {
	if addr == [16]byte{} && port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), port)
}

func cgroup(raw []byte, e *event.Event) error {
	var r bpfobj.ABIEvCgroup
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject.Container = r.Id
	e.Removed, e.Unit = r.Removed != 0, r.Unit != 0
	e.Path = text(r.Path[:])
	return nil
}
