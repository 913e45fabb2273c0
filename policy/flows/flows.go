// Package flows reads what an agent saw, as lines of JSON (alerts.jsonl, `sallyport observe -o json`),
// back into the words of policies: which process called whom, how often and when, and what was decided.
//
// It is pure: it imports policy only. Every text in the lines comes from workloads and is hostile; the
// escapes of the agent's outputs are undone, so that names are what they were in the kernel.
package flows

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Bounds on what a file can cost.
const (
	maxLine  = 1 << 20 // bytes; a longer line is skipped
	maxFlows = 1 << 17 // distinct ones; more is an error
)

// ErrTooMany is returned for a file with more distinct flows than can be worked with.
var ErrTooMany = errors.New("too many distinct flows: split it, by namespace or by time")

// Flow is one distinct thing that was seen: all events that policies cannot tell apart are one.
type Flow struct {
	Process  policy.Process // Workload.Pod is the owner's name, see Owner; Labels are nil where none are known; Host: of a unit
	Call     policy.Call
	PeerName string // by which the process looked the peer up, also in Call.Names; "" where that is not known
	// What was said inside of the call, at most one of them: as of policy.Question. Events tell no header but Host.
	Query      *string
	Request    *policy.Request
	ServerName *string
	Verdict    policy.Verdict
	Would      policy.Verdict
	Rule       string // that decided
	Count      uint64
	First      time.Time
	Last       time.Time
}

// Question is what policies are asked about a flow.
func (f *Flow) Question() policy.Question {
	return policy.Question{Call: f.Call, Query: f.Query, Request: f.Request, ServerName: f.ServerName}
}

// Said is what was said inside of the call, for people; "" where the flow is the call itself.
func (f *Flow) Said() string {
	switch {
	case f.Query != nil:
		return "query " + *f.Query
	case f.Request != nil:
		return "request " + f.Request.Method + " " + f.Request.Host + f.Request.Path
	case f.ServerName != nil:
		return "server name " + *f.ServerName
	}
	return ""
}

// Denied says whether the flow was stopped.
func (f *Flow) Denied() bool {
	return f.Verdict != "" && f.Verdict != policy.VerdictAllow && f.Verdict != policy.VerdictAudit
}

// Log is what a file holds.
type Log struct {
	Flows   []Flow         // in an order that depends on nothing but themselves
	Events  int            // lines that are in Flows
	Skipped map[string]int // why lines are not in Flows, and how many each
	Lost    uint64         // events that the agent itself says it lost
}

// Options say what is known beside the lines.
type Options struct {
	Labels []PodLabels // for events that do not tell their pod's labels
}

// Read reads lines until the end. A line that is no event is skipped and counted: logs get cut, and
// nothing that was left out can be learnt by mistake. A file with no event at all is an error.
func Read(r io.Reader, o Options) (Log, error) {
	log := Log{Skipped: map[string]int{}}
	seen := map[key]*Flow{}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			log.Skipped["the line is too long"]++
			if err = skipLine(in); err == nil {
				continue
			}
			line = nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := log.add(seen, line, o); err != nil {
				return Log{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Log{}, fmt.Errorf("reading events: %w", err)
		}
	}
	if len(seen) == 0 && log.Skipped[noJSON] > 0 {
		return Log{}, errors.New("reading events: none of the lines is one: they are JSON, as in alerts.jsonl and from sallyport observe -o json")
	}
	log.Flows = sorted(seen)
	return log, nil
}

// skipLine reads up to the end of a line.
func skipLine(in *bufio.Reader) error {
	for {
		if _, err := in.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// key is what distinguishes flows.
type key struct {
	namespace, pod, container, containerType, labels string
	host                                             policy.HostUnit // zero: no unit
	origin                                           policy.Origin
	exe, script                                      string
	cut                                              bool
	user                                             policy.IDs
	direction                                        policy.Direction
	peer                                             netip.Addr
	protocol                                         uint8
	port                                             uint16
	listen                                           bool
	name                                             string
	said                                             said
	verdict, would                                   policy.Verdict
	rule                                             string
}

// said is what distinguishes what was said.
type said struct{ kind, method, host, path, name string }

func saidOf(f *Flow) said {
	switch {
	case f.Query != nil:
		return said{kind: "query", name: *f.Query}
	case f.Request != nil:
		return said{kind: "request", method: f.Request.Method, host: f.Request.Host, path: f.Request.Path}
	case f.ServerName != nil:
		return said{kind: "server", name: *f.ServerName}
	}
	return said{}
}

func (a said) compare(b said) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name), cmp.Compare(a.host, b.host), cmp.Compare(a.path, b.path), cmp.Compare(a.method, b.method))
}

func keyOf(f *Flow) key {
	w := &f.Process.Workload
	var host policy.HostUnit
	if w.Host != nil {
		host = *w.Host
	}
	return key{
		w.Namespace, w.Pod, w.Container, w.ContainerType, LabelText(w.Labels), host, f.Process.Origin,
		f.Process.Exe, f.Process.Script, f.Process.Truncated, f.Process.User,
		f.Call.Direction, f.Call.Peer, f.Call.Protocol, f.Call.Port, f.Call.Listen, f.PeerName, saidOf(f), f.Verdict, f.Would, f.Rule,
	}
}

// add takes in one line.
func (l *Log) add(seen map[key]*Flow, line []byte, o Options) error {
	e, err := decode(line)
	if err != nil {
		l.Skipped[noJSON]++
		return nil //nolint:nilerr // counted
	}
	l.Lost += e.Lost
	f, why := e.flow(o)
	if why != "" {
		l.Skipped[why]++
		return nil
	}
	l.Events++
	k := keyOf(&f)
	known, ok := seen[k]
	if !ok {
		if len(seen) == maxFlows {
			return fmt.Errorf("reading events: more than %d: %w", maxFlows, ErrTooMany)
		}
		seen[k] = &f
		return nil
	}
	known.Count++
	if f.First.Before(known.First) {
		known.First = f.First
	}
	if f.Last.After(known.Last) {
		known.Last = f.Last
	}
	return nil
}

// sorted lists flows by workload, process and call.
func sorted(seen map[key]*Flow) []Flow {
	keys := slices.Collect(maps.Keys(seen))
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(
			cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.pod, b.pod), cmp.Compare(a.container, b.container),
			cmp.Compare(a.containerType, b.containerType), cmp.Compare(a.host.Cgroup, b.host.Cgroup), cmp.Compare(a.host.Unit, b.host.Unit), cmp.Compare(a.labels, b.labels), cmp.Compare(a.origin, b.origin),
			cmp.Compare(a.exe, b.exe), cmp.Compare(a.script, b.script), cmp.Compare(a.direction, b.direction),
			a.peer.Compare(b.peer), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port),
			cmp.Compare(a.name, b.name), a.said.compare(b.said), cmp.Compare(a.verdict, b.verdict), cmp.Compare(a.would, b.would), cmp.Compare(a.rule, b.rule),
			slices.Compare(a.user[:], b.user[:]), boolean(a.cut, b.cut), boolean(a.listen, b.listen))
	})
	out := make([]Flow, len(keys))
	for i, k := range keys {
		out[i] = *seen[k]
	}
	return out
}

func boolean(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// LabelText writes labels as key=value,key=value in the order of their keys. What separates them is
// written as in an address: %2C, %3D, %25.
func LabelText(labels map[string]string) string {
	escape := strings.NewReplacer("%", "%25", ",", "%2C", "=", "%3D")
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, escape.Replace(k)+"="+escape.Replace(labels[k]))
	}
	return strings.Join(parts, ",")
}
