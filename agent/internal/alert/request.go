package alert

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/probes/event"
)

// request is about an HTTP request, or what is none.
func (r *Record) request() string {
	e := &r.Event
	what := "what cannot be read as a request"
	switch {
	case e.Kind == event.KindHello && e.Host == "":
		what = "TLS for no name"
	case e.Kind == event.KindHello:
		what = "TLS for " + Escape(e.Host)
	case e.Method != "":
		what = "request " + Escape(e.Method) + " " + Escape(e.Host+e.Path)
		if e.URLQuery != "" {
			what += Escape("?" + e.URLQuery)
		}
	}
	at := "to"
	if e.Call == event.CallPacketIn {
		at = "from"
	}
	line := words(verb(e), what, at, r.Peer(), "of", who(r), r.where())
	if headers := headersText(e.Headers); headers != "" {
		line += ", with " + headers
	}
	if e.Verdict == event.VerdictAudit && e.Would != event.VerdictNone {
		line += ", would get " + VerdictName(e.Would)
	}
	if why := why(r); why != "" {
		line += ": " + why
	}
	return line
}

// response is about the answer to a request.
func (r *Record) response() string {
	e := &r.Event
	what, at := "a request", "to"
	if e.Method != "" {
		what = "request " + Escape(e.Method) + " " + Escape(e.Host+e.Path)
	}
	if e.Call == event.CallPacketIn {
		at = "from"
	}
	return words("status", strconv.Itoa(int(e.Status)), "after", e.Latency.String(), "for", what, at, r.Peer(), "of", who(r), r.where())
}

// hostOf is the host that an event of one of these kinds is about.
func hostOf(r *Record, kinds ...event.Kind) Value {
	if !slices.Contains(kinds, r.Event.Kind) {
		return text("")
	}
	return text(r.Event.Host)
}

// headersField is the headers that the configuration names: in JSON a map.
func headersField(r *Record) Value {
	var object []byte
	next := byte('{')
	for _, h := range r.Event.Headers {
		if h.There {
			object = append(appendString(append(object, next), Escape(h.Name)), ':')
			object = appendString(object, Escape(h.Value))
			next = ','
		}
	}
	if object == nil {
		return Value{}
	}
	return Value{text: headersText(r.Event.Headers), quoted: true, object: string(append(object, '}'))}
}

// headersText is the same as a text: name="value" name="value". A quote in a value is escaped, so that none can be forged.
func headersText(headers []event.Header) string {
	var out []string
	for _, h := range headers {
		if h.There {
			out = append(out, Escape(h.Name)+`="`+strings.ReplaceAll(Escape(h.Value), `"`, `\"`)+`"`)
		}
	}
	return strings.Join(out, " ")
}

// cutDetails names what the configuration asks for and is not, or not all, in the event.
func cutDetails(e *event.Event) string {
	var out []string
	if e.URLQueryCut {
		out = append(out, "urlQuery")
	}
	for _, h := range e.Headers {
		if h.Cut {
			out = append(out, Escape(h.Name))
		}
	}
	return strings.Join(out, ",")
}

// flawField is why something is no request; a request has none.
func flawField(r *Record) Value {
	if r.Event.Flaw == event.FlawNone {
		return text("")
	}
	return text(FlawName(r.Event.Flaw))
}

// ALPNName is the protocols that a client offers, as h2,http/1; what is neither is "other". "" for none.
func ALPNName(offers event.ALPN) string {
	var names []string
	if offers&event.ALPNHTTP2 != 0 {
		names = append(names, "h2")
	}
	if offers&event.ALPNHTTP1 != 0 {
		names = append(names, "http/1")
	}
	if offers&event.ALPNOther != 0 {
		names = append(names, "other")
	}
	return strings.Join(names, ",")
}

// FlawName says why something cannot be judged as a request.
func FlawName(f event.Flaw) string {
	switch f {
	case event.FlawNone: // a request
	case event.FlawSyntax:
		return "it is no HTTP/1"
	case event.FlawTLS:
		return "it is TLS, which no tap reads"
	case event.FlawHTTP2:
		return "it is HTTP/2 where HTTP/1 has begun"
	case event.FlawLong:
		return "its head is longer than 8 KiB"
	case event.FlawLineEnd:
		return "a line does not end in CR LF"
	case event.FlawFolded:
		return "a header goes on in the next line"
	case event.FlawFraming:
		return "where its body ends can be read in two ways"
	case event.FlawHost:
		return "it has no host, two, or another than its target names"
	case event.FlawPath:
		return "its path can be read in two ways"
	case event.FlawTunnel:
		return "it asks for a tunnel, or for WebSocket where that is not followed"
	case event.FlawHeader:
		return "a header that a rule demands is there twice"
	case event.FlawMidway:
		return "the connection is older than the policy"
	case event.FlawUrgent:
		return "it is in urgent data"
	case event.FlawShared:
		return "it lies in memory that its sender can still change"
	case event.FlawUnread:
		return "a part of it could not be read"
	case event.FlawHPACK:
		return "its headers do not decode"
	case event.FlawHello:
		return "its ClientHello cannot be read, or asks for a name in two ways"
	}
	return number(f)
}
