package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
)

// newFilter makes the function that says whether a record is asked for. A word that no event can
// have is an error: it would match nothing, for ever.
func newFilter(req *apiv1.ObserveRequest) (func(*alert.Record) bool, error) {
	for _, list := range []struct {
		field        string
		asked, known []string
	}{
		{"origin", req.GetOrigins(), names(event.OriginUnknown, event.OriginHost, alert.OriginName)},
		{"verdict", req.GetVerdicts(), names(event.VerdictAllow, event.VerdictKill, alert.VerdictName)},
		{"kind", req.GetKinds(), alert.KindNames()},
	} {
		for _, word := range list.asked {
			if !slices.Contains(list.known, word) {
				return nil, fmt.Errorf("reading the filter: %s %q is none of %s", list.field, word, strings.Join(list.known, ", "))
			}
		}
	}
	binaries := make([]policy.Glob, 0, len(req.GetBinaries()))
	for _, pattern := range req.GetBinaries() {
		glob, err := policy.ParseGlob(pattern)
		if err != nil {
			return nil, fmt.Errorf("reading the filter: binary %q: %w", pattern, err)
		}
		binaries = append(binaries, glob)
	}
	peers, err := prefixes(req.GetPeers())
	if err != nil {
		return nil, err
	}
	var since time.Time
	if req.GetSince() != nil {
		since = req.GetSince().AsTime()
	}
	among := func(asked []string, value string) bool { return len(asked) == 0 || slices.Contains(asked, value) }
	return func(r *alert.Record) bool {
		return !r.Event.Time.Before(since) &&
			among(req.GetNamespaces(), r.Namespace) &&
			among(req.GetPods(), r.Pod) &&
			among(req.GetContainers(), r.Container) &&
			among(req.GetOrigins(), r.Origin()) &&
			among(req.GetVerdicts(), alert.VerdictName(r.Event.Verdict)) &&
			among(req.GetKinds(), alert.KindName(r.Event.Kind)) &&
			matchBinary(binaries, r) && matchPeer(peers, r)
	}, nil
}

func matchBinary(globs []policy.Glob, r *alert.Record) bool {
	s := &r.Event.Subject
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g policy.Glob) bool {
		return s.Exe != "" && g.Match(s.Exe) || s.Script != "" && g.Match(s.Script)
	})
}

func matchPeer(peers []netip.Prefix, r *alert.Record) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p netip.Prefix) bool {
		return p.Contains(r.Event.Remote.Addr().Unmap())
	})
}

// prefixes reads CIDRs, and addresses as the CIDR of themselves.
func prefixes(texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			addr = addr.Unmap().WithZone("")
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("reading the filter: peer %q is neither an address nor a CIDR", text)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// names lists the words of an enumeration.
func names[T ~uint8](first, last T, name func(T) string) []string {
	var out []string
	for v := first; v <= last; v++ {
		out = append(out, name(v))
	}
	return out
}
