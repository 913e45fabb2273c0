package decode

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// policyIngress is DIR_INGRESS of bpf/include/abi/policy.h.
const policyIngress = 1

// requestCall is what a request is judged as, by the direction of its connection.
func requestCall(direction uint8) event.Call {
	if direction == policyIngress {
		return event.CallPacketIn
	}
	return event.CallPacketOut
}

// request decodes REQUEST and HELLO, whose texts stand one behind the other at the end.
func request(raw []byte, e *event.Event, headers Headers) error {
	var r bpfobj.ABIEvRequest
	if err := read(raw, &r); err != nil {
		return err
	}
	e.Subject = task(&r.Task)
	texts := string(raw[unsafe.Sizeof(r):]) // all at once: every request may be told
	var values [bpfobj.ABIDetailLimitsNAMED_HEADERS]string
	for i, to := range [bpfobj.ABIEvTextsEV_TEXTS]*string{
		&e.Subject.Exe, &e.Subject.Script, &e.Method, &e.Path, &e.Host, &e.URLQuery, &values[0], &values[1], &values[2], &values[3],
	} {
		n := int(r.Len[i])
		if i >= int(bpfobj.ABIEvTextsEV_TEXT_QUERY) {
			n &^= textThere | textCut
		}
		if n > int(bpfobj.ABIEvTextsEV_TEXT) || n > len(texts) {
			return fmt.Errorf("%w: text %d has %d bytes, there are %d", ErrMalformed, i, n, len(texts))
		}
		*to, texts = texts[:n], texts[n:]
	}
	e.URLQueryCut = int(r.Len[bpfobj.ABIEvTextsEV_TEXT_QUERY])&textCut != 0
	if r.Headers == headers.ID { // else of another list, whose names nobody knows any more
		e.Headers = headersOf(headers.Names, r.Len[bpfobj.ABIEvTextsEV_TEXT_HEADERS:], &values)
	}
	e.Rule, e.Revision, e.NetNS, e.Socket = r.Rule, r.Revision, r.Netns, r.Socket
	e.Local, e.Remote = endpoint(r.Local, r.LocalPort), endpoint(r.Remote, r.RemotePort)
	e.Protocol, e.Step, e.Call = unix.IPPROTO_TCP, event.Step(r.Step), requestCall(r.Direction)
	e.Verdict, e.Would = event.Verdict(r.Verdict), event.Verdict(r.Would)
	e.Reason, e.Severity, e.Flaw = event.Reason(r.Reason), event.Severity(r.Severity), event.Flaw(r.Flaw)
	e.Asked = r.Header.KtimeNs
	e.ALPN, e.Encrypted = protocols(r.Hello), r.Hello&uint8(bpfobj.ABIHelloFlagsHELLO_ENCRYPTED) != 0
	return nil
}

// What the length of a text says besides.
const (
	textThere = int(bpfobj.ABIEvTextsEV_TEXT_THERE)
	textCut   = int(bpfobj.ABIEvTextsEV_TEXT_CUT)
)

// headersOf are the headers by these names of which something is known.
func headersOf(names []string, lens []uint16, values *[bpfobj.ABIDetailLimitsNAMED_HEADERS]string) (out []event.Header) {
	for i, name := range names[:min(len(names), len(values))] {
		h := event.Header{
			Name: name, Value: strings.Trim(values[i], " \t"), // blanks around a value are not of it
			There: int(lens[i])&textThere != 0, Cut: int(lens[i])&textCut != 0,
		}
		if h.There || h.Cut {
			out = append(out, h)
		}
	}
	return out
}

// protocols are those that a ClientHello offers.
func protocols(flags uint8) (out event.ALPN) {
	for _, p := range []struct {
		in  bpfobj.ABIHelloFlags
		out event.ALPN
	}{
		{bpfobj.ABIHelloFlagsHELLO_HTTP1, event.ALPNHTTP1},
		{bpfobj.ABIHelloFlagsHELLO_HTTP2, event.ALPNHTTP2},
		{bpfobj.ABIHelloFlagsHELLO_OTHER, event.ALPNOther},
	} {
		if flags&uint8(p.in) != 0 {
			out |= p.out
		}
	}
	return out
}
