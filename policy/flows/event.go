package flows

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/policy"
)

// Why lines are not taken.
const (
	noJSON     = "the line is no JSON"
	noCall     = "the event is about no call"
	noWorkload = "the workload is not known"
	noAddress  = "the call has no address"
	noProtocol = "the protocol cannot be told"
	noOrigin   = "the origin is unknown to this version"
	noVerdict  = "the verdict is unknown to this version"
	noAnswer   = "it is an answer to nothing, which no policy judges"
	noRequest  = "what was said cannot be read, which no policy judges"
	mayBeCut   = "what was said may be cut"
)

// typeUnit says that a workload is a unit or cgroup of the node: its container is the unit, and the id of that the path
// of the cgroup. The word is runtime/identity's.
const typeUnit = "Unit"

// event is what is read of a line; a field that is not there is empty.
type event struct {
	Time          time.Time `json:"time"`
	Kind          string    `json:"kind"`
	Namespace     string    `json:"namespace"`
	Pod           string    `json:"pod"`
	PodLabels     string    `json:"podLabels"` // key=value,key=value
	Container     string    `json:"container"`
	ContainerID   string    `json:"containerID"`
	ContainerType string    `json:"containerType"`
	Origin        string    `json:"origin"`
	Binary        string    `json:"binary"`
	Interpreter   string    `json:"interpreter"`
	BinaryCut     bool      `json:"binaryCut"`
	UID           uint32    `json:"uid"`
	Call          string    `json:"call"`
	Peer          string    `json:"peer"`
	PeerName      string    `json:"peerName"`
	Local         string    `json:"local"`
	Verdict       string    `json:"verdict"`
	Would         string    `json:"would"`
	Rule          string    `json:"rule"`
	Lost          uint64    `json:"lost"`
	Query         string    `json:"query"`
	Answer        bool      `json:"answer"`
	Method        string    `json:"method"`
	Path          string    `json:"path"`
	Host          string    `json:"host"`
	ServerName    string    `json:"serverName"`
	Flaw          string    `json:"flaw"`
}

// decode reads a line and undoes the escapes of its texts.
func decode(line []byte) (event, error) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("decoding an event: %w", err)
	}
	for _, text := range []*string{
		&e.Namespace, &e.Pod, &e.PodLabels, &e.Container, &e.ContainerID, &e.ContainerType, &e.Binary, &e.Interpreter, &e.PeerName, &e.Rule,
		&e.Query, &e.Method, &e.Path, &e.Host, &e.ServerName,
	} {
		var err error
		if *text, err = unescape(*text); err != nil {
			return e, err
		}
	}
	return e, nil
}

// unescape undoes what the agent's outputs do to text: Go's escapes, and a doubled backslash.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for s != "" {
		r, multibyte, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", errors.New("the text is cut or badly escaped")
		}
		if r < utf8.RuneSelf || !multibyte {
			out = append(out, byte(r))
		} else {
			out = utf8.AppendRune(out, r)
		}
		s = rest
	}
	return string(out), nil
}

// flow turns an event into a flow of one; why says why it is none.
func (e *event) flow(o Options) (f Flow, why string) {
	f.Call, why = e.call()
	if why == "" {
		why = e.inside(&f)
	}
	switch {
	case why != "":
		return f, why
	case e.ContainerType != typeUnit && (e.Namespace == "" || e.Container == ""), e.ContainerType == typeUnit && e.ContainerID == "":
		return f, noWorkload
	case policy.Origin(e.Origin).Number() == 0 && e.Origin != string(policy.OriginUnknown):
		return f, noOrigin
	case e.Verdict != "" && policy.Verdict(e.Verdict).Number() == 0, e.Would != "" && policy.Verdict(e.Would).Number() == 0:
		return f, noVerdict
	}
	f.Process = policy.Process{
		Workload: e.workload(o), Origin: policy.Origin(e.Origin), Exe: e.Binary, Truncated: e.BinaryCut,
		// Events tell the effective id, and nothing of groups: those could be any.
		User: policy.OneID(e.UID), Group: policy.OneID(policy.NoID),
	}
	if e.Interpreter != "" {
		f.Process.Exe, f.Process.Script = e.Interpreter, e.Binary
	}
	if name, ok := hostName(e.PeerName); ok && f.Call.Direction == policy.Egress && f.Call.Peer.IsValid() {
		f.PeerName, f.Call.Names = name, []string{name}
	}
	f.Verdict, f.Would, f.Rule = policy.Verdict(e.Verdict), policy.Verdict(e.Would), e.Rule
	f.Count, f.First, f.Last = 1, e.Time.UTC(), e.Time.UTC()
	return f, ""
}

// cutAt is how many bytes events have of each text of a request at most: SAID_TEXT of bpf/include/abi/request.h.
const cutAt = 256

// inside reads what an event says was said inside of its call; why says why it is of no use.
func (e *event) inside(f *Flow) (why string) {
	switch {
	case e.Kind == "dns":
		// An answer that is taken is one to a query that was allowed; what else comes is judged by nothing but the query.
		if e.Answer && e.Verdict != string(policy.VerdictAllow) {
			return noAnswer
		}
		if e.Query == "" {
			return noRequest
		}
		f.Query = new(policy.NormalName(e.Query))
	case e.Kind != "request" && e.Kind != "hello":
	case e.Flaw != "":
		return noRequest
	case max(len(e.Method), len(e.Path), len(e.Host), len(e.ServerName)) >= cutAt:
		return mayBeCut
	case e.Kind == "hello":
		f.ServerName = new(policy.NormalName(e.ServerName))
	default:
		f.Request = &policy.Request{Method: e.Method, Path: e.Path, Host: e.Host}
	}
	return ""
}

// workload is whose process an event is about.
func (e *event) workload(o Options) policy.Workload {
	if e.ContainerType == typeUnit {
		return policy.Workload{Host: &policy.HostUnit{Unit: e.Container, Cgroup: e.ContainerID}}
	}
	w := policy.Workload{Namespace: e.Namespace, Pod: Owner(e.Pod), Container: e.Container, ContainerType: e.ContainerType}
	w.Labels = parseLabels(e.PodLabels)
	for i := range o.Labels {
		if w.Labels == nil && o.Labels[i].matches(e.Namespace, e.Pod) {
			w.Labels = o.Labels[i].labels
		}
	}
	return w
}

// call reads which call an event is about.
func (e *event) call() (c policy.Call, why string) {
	at, direction := e.Peer, policy.Egress
	switch {
	case e.Kind == "connect" && e.Call != "accept", e.Kind == "flow" && e.Call == "packet-out":
	case e.Kind == "connect" && e.Call == "accept", e.Kind == "flow" && e.Call == "packet-in":
		direction = policy.Ingress
	case e.Kind == "dns": // of answers too: about the query
	case (e.Kind == "request" || e.Kind == "hello") && e.Call == "packet-out":
	case (e.Kind == "request" || e.Kind == "hello") && e.Call == "packet-in":
		direction = policy.Ingress
	case e.Kind == "listen":
		at = e.Local
	case e.Kind == "socket", e.Kind == "flow":
		return c, noAddress
	default:
		return c, noCall
	}
	if at == "" {
		return c, noAddress
	}
	c, ok := parseEnd(at)
	if !ok {
		return c, noProtocol
	}
	c.Direction = direction
	switch {
	case e.Kind == "listen":
		c.Listen = true
	case direction == policy.Ingress: // the port of an ingress call is the workload's
		local, ok := parseEnd(e.Local)
		if !ok {
			return c, noAddress
		}
		c.Port = local.Port
	}
	return c.Canonical(), ""
}

// parseEnd reads one end of a call. Events name protocols that policies do not.
func parseEnd(text string) (policy.Call, bool) {
	where, name, ok := strings.Cut(text, "/")
	if !ok {
		return policy.Call{}, false
	}
	if number, known := map[string]string{"UDPLite": "136", "DCCP": "33", "RAW": "255"}[name]; known {
		name = number
	}
	c, err := policy.ParseCall(where + "/" + name)
	return c, err == nil && c.Peer.IsValid()
}

// hostName returns a name as policies write it; ok is false where they cannot. Names come from whoever
// answers a query.
func hostName(s string) (name string, ok bool) {
	if _, err := netip.ParseAddr(s); err == nil {
		return "", false
	}
	p, err := policy.ParseName(s)
	return policy.FQDNSelector{MatchName: p}.String(), err == nil
}
