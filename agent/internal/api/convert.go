package api

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func eventMessage(r *alert.Record) *apiv1.ObserveResponse {
	return &apiv1.ObserveResponse{Item: &apiv1.ObserveResponse_Event{Event: fromRecord(r)}}
}

// fromRecord is a record as the API sends it.
func fromRecord(r *alert.Record) *apiv1.Event {
	e := &r.Event
	out := &apiv1.Event{
		Time: timestamppb.New(e.Time), Kind: uint32(e.Kind), Subject: fromSubject(&e.Subject),
		Call: uint32(e.Call), Step: uint32(e.Step),
		Family: uint32(e.Family), Type: uint32(e.Type), Protocol: uint32(e.Protocol),
		Local: fromAddrPort(e.Local), Remote: fromAddrPort(e.Remote),
		Verdict: uint32(e.Verdict), Would: uint32(e.Would), Reason: uint32(e.Reason), Severity: uint32(e.Severity),
		RuleRef: e.Rule, Revision: e.Revision, Netns: e.NetNS, Ifindex: e.Ifindex,
		ExitCode: e.ExitCode, Signal: e.Signal, Packets: e.Packets, Bytes: e.Bytes,
		Lost: e.Lost, Site: e.Site, Removed: e.Removed, Path: []byte(e.Path),
		Query: []byte(e.Query), QueryType: uint32(e.QType), Answer: e.Answer, Rcode: uint32(e.RCode), Told: e.Told,
		Method: []byte(e.Method), Host: []byte(e.Host), Flaw: uint32(e.Flaw), Alpn: uint32(e.ALPN), EncryptedHello: e.Encrypted,
		KtlsPart: uint32(e.KTLS.Part), TlsVersion: uint32(e.KTLS.Version), TlsCipher: uint32(e.KTLS.Cipher), Tapped: e.KTLS.Tapped,
		Status: uint32(e.Status), LatencyNs: uint64(e.Latency), UrlQuery: []byte(e.URLQuery), UrlQueryCut: e.URLQueryCut,

		Workload: []byte(r.Workload), Namespace: r.Namespace, Pod: r.Pod,
		Container: r.Container, ContainerId: r.ContainerID, Image: r.Image, PodLabels: []byte(r.PodLabels), ContainerType: r.ContainerType, User: []byte(r.User), PeerName: []byte(r.PeerName),
		SessionName: r.SessionID, ExecId: r.ExecID, Terminal: r.Terminal, Policy: r.Policy, Rule: r.Rule, Message: r.Message(),
	}
	if e.Target != nil {
		out.Target = fromSubject(e.Target)
	}
	for _, arg := range e.Args {
		out.Args = append(out.Args, []byte(arg))
	}
	for _, h := range e.Headers {
		out.Headers = append(out.Headers, &apiv1.NamedHeader{Name: h.Name, Value: []byte(h.Value), There: h.There, Cut: h.Cut})
	}
	makeValid(out.ProtoReflect())
	return out
}

func fromSubject(s *event.Subject) *apiv1.Subject {
	return &apiv1.Subject{
		Container: s.Container, Session: s.Session, Exec: s.Exec, Pid: s.PID, Tid: s.TID, Uid: s.UID,
		Origin: uint32(s.Origin), Inferred: s.Inferred,
		Exe: []byte(s.Exe), Script: []byte(s.Script), Comm: []byte(s.Comm), Truncated: s.Truncated, Drifted: s.Drifted,
	}
}

// ToRecord is the record that an event of the API was made from.
func ToRecord(e *apiv1.Event) *alert.Record {
	r := &alert.Record{
		Event: event.Event{
			Time: e.GetTime().AsTime(), Kind: event.Kind(e.GetKind()),
			Subject: toSubject(e.GetSubject()),
			Call:    event.Call(e.GetCall()), Step: event.Step(e.GetStep()),
			Family: uint16(e.GetFamily()), Type: uint16(e.GetType()), Protocol: uint16(e.GetProtocol()),
			Local: toAddrPort(e.GetLocal()), Remote: toAddrPort(e.GetRemote()),
			Verdict: event.Verdict(e.GetVerdict()), Would: event.Verdict(e.GetWould()),
			Reason: event.Reason(e.GetReason()), Severity: event.Severity(e.GetSeverity()),
			Rule: e.GetRuleRef(), Revision: e.GetRevision(), NetNS: e.GetNetns(), Ifindex: e.GetIfindex(),
			ExitCode: e.GetExitCode(), Signal: e.GetSignal(), Packets: e.GetPackets(), Bytes: e.GetBytes(),
			Lost: e.GetLost(), Site: e.GetSite(), Removed: e.GetRemoved(), Path: string(e.GetPath()),
			Query: string(e.GetQuery()), QType: uint16(e.GetQueryType()), Answer: e.GetAnswer(), RCode: uint8(e.GetRcode()), Told: e.GetTold(),
			Method: string(e.GetMethod()), Host: string(e.GetHost()), Flaw: event.Flaw(e.GetFlaw()), ALPN: event.ALPN(e.GetAlpn()), Encrypted: e.GetEncryptedHello(),
			KTLS:   event.KTLS{Part: event.KTLSPart(e.GetKtlsPart()), Version: uint16(e.GetTlsVersion()), Cipher: uint16(e.GetTlsCipher()), Tapped: e.GetTapped()},
			Status: uint16(e.GetStatus()), Latency: time.Duration(e.GetLatencyNs()), URLQuery: string(e.GetUrlQuery()), URLQueryCut: e.GetUrlQueryCut(),
		},
		Workload: string(e.GetWorkload()), Namespace: e.GetNamespace(), Pod: e.GetPod(),
		Container: e.GetContainer(), ContainerID: e.GetContainerId(), Image: e.GetImage(), PodLabels: string(e.GetPodLabels()), ContainerType: e.GetContainerType(), User: string(e.GetUser()), PeerName: string(e.GetPeerName()),
		SessionID: e.GetSessionName(), ExecID: e.GetExecId(), Terminal: e.GetTerminal(), Policy: e.GetPolicy(), Rule: e.GetRule(),
	}
	if e.GetTarget() != nil {
		target := toSubject(e.GetTarget())
		r.Event.Target = &target
	}
	for _, arg := range e.GetArgs() {
		r.Event.Args = append(r.Event.Args, string(arg))
	}
	for _, h := range e.GetHeaders() {
		r.Event.Headers = append(r.Event.Headers, event.Header{Name: h.GetName(), Value: string(h.GetValue()), There: h.GetThere(), Cut: h.GetCut()})
	}
	return r
}

func toSubject(s *apiv1.Subject) event.Subject {
	return event.Subject{
		Container: s.GetContainer(), Session: s.GetSession(), Exec: s.GetExec(),
		PID: s.GetPid(), TID: s.GetTid(), UID: s.GetUid(),
		Origin: event.Origin(s.GetOrigin()), Inferred: s.GetInferred(),
		Exe: string(s.GetExe()), Script: string(s.GetScript()), Comm: string(s.GetComm()), Truncated: s.GetTruncated(), Drifted: s.GetDrifted(),
	}
}

// fromAddrPort is the address's bytes and two of the port, big endian; nil for no address.
func fromAddrPort(a netip.AddrPort) []byte {
	if !a.Addr().IsValid() {
		return nil
	}
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

// toAddrPort reads what fromAddrPort wrote; anything else is no address.
func toAddrPort(b []byte) netip.AddrPort {
	const portSize = 2
	if len(b) < portSize {
		return netip.AddrPort{}
	}
	at := len(b) - portSize
	addr, ok := netip.AddrFromSlice(b[:at])
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[at:]))
}

// makeValid replaces what is no UTF-8 in the texts of a message: one name of that kind would else
// keep the whole message from being sent.
func makeValid(m protoreflect.Message) {
	valid := func(v protoreflect.Value) protoreflect.Value {
		return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD"))
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		text, message := fd.Kind() == protoreflect.StringKind, fd.Kind() == protoreflect.MessageKind
		switch {
		case fd.IsList() && (text || message):
			items := v.List()
			for i := range items.Len() {
				if text {
					items.Set(i, valid(items.Get(i)))
				} else {
					makeValid(items.Get(i).Message())
				}
			}
		case text:
			m.Set(fd, valid(v))
		case message:
			makeValid(v.Message())
		}
		return true
	})
}
