package syslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

// Facility is a syslog facility code, 0 to 23 (RFC 5424, table 1).
type Facility uint8

// facilityNames are the usual names by code.
func facilityNames() []string {
	return []string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
		"ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
		"local5", "local6", "local7",
	}
}

// ParseFacility reads the name of a facility, such as daemon or local4.
func ParseFacility(name string) (Facility, error) {
	for code, known := range facilityNames() {
		if name == known {
			return Facility(code), nil
		}
	}
	return 0, fmt.Errorf("reading the syslog facility: %q is none of %s", name, strings.Join(facilityNames(), ", "))
}

// Syslog severities (RFC 5424, table 2).
const (
	severityCritical = 2
	severityWarning  = 4
	severityInfo     = 6
)

func severityOf(r *alert.Record) uint8 {
	switch r.Severity() {
	case event.SeverityCritical:
		return severityCritical
	case event.SeverityWarning:
		return severityWarning
	case event.SeverityInfo:
		return severityInfo
	}
	return severityWarning
}

// The longest header fields in bytes, and the number of decimals of a timestamp, as RFC 5424
// section 6 allows.
const (
	maxHostname = 255
	maxAppName  = 48
	maxProcID   = 128
	maxMsgID    = 32
	timeLayout  = "2006-01-02T15:04:05.000000Z07:00"
	nilValue    = "-"
	bom         = "\xef\xbb\xbf"
)

// maxSequence is where sequenceId starts again at 1 (RFC 5424, section 7.3.1).
const maxSequence = 2147483647

// encoder writes records as RFC 5424 messages. What does not change is prepared once.
type encoder struct {
	facility Facility
	fields   alert.Fields
	header   string // " HOSTNAME APP-NAME PROCID " with its spaces
	open     string // "[sallyport@ENTERPRISE"
	limit    int    // bytes of a whole message
}

func newEncoder(cfg Config) *encoder {
	return &encoder{
		facility: cfg.Facility,
		fields:   alert.NewFields(),
		header: " " + headerField(cfg.Hostname, maxHostname) +
			" " + headerField(cfg.AppName, maxAppName) +
			" " + headerField(cfg.ProcID, maxProcID) + " ",
		open:  "[sallyport@" + strconv.FormatUint(uint64(cfg.EnterpriseID), 10),
		limit: cfg.MaxMessage,
	}
}

// append appends the message of r to dst. It is at most limit bytes, one line, printable UTF-8
// behind a header of printable ASCII, and the structured data is whole whatever r holds: values
// are cut with a mark, and what does not fit at all is left out and counted in the parameter
// "omitted". sequence goes into the standard element "meta", by which the receiver sees gaps.
func (e *encoder) append(dst []byte, r *alert.Record, sequence uint32) []byte {
	start := len(dst)
	dst = append(dst, '<')
	dst = strconv.AppendUint(dst, uint64(e.facility)*8+uint64(severityOf(r)), 10)
	dst = append(dst, '>', '1', ' ')
	dst = appendTimestamp(dst, r.Event.Time)
	dst = append(dst, e.header...)
	dst = append(dst, headerField(alert.KindName(r.Event.Kind), maxMsgID)...)
	dst = append(dst, ' ')

	const messageShare = 4 // the line for people gets at most a quarter
	line := alert.Cut(r.Message(), e.limit/messageShare-len(bom)-1, byteLen)
	meta := `[meta sequenceId="` + strconv.FormatUint(uint64(sequence), 10) + `"]`
	dst = e.appendElement(dst, r, e.limit-(len(dst)-start)-len(meta)-1-len(bom)-len(line))
	dst = append(dst, meta...)
	dst = append(dst, ' ')
	dst = append(dst, bom...)
	return append(dst, line...)
}

// omittedRoom is kept for ` omitted="NN"`, minValue for the shortest value worth a cut.
const (
	omittedRoom = len(` omitted="99"`)
	minValue    = 24
)

// appendElement appends the element of our own in at most room bytes, which must hold at least its
// id.
func (e *encoder) appendElement(dst []byte, r *alert.Record, room int) []byte {
	dst = append(dst, e.open...)
	room -= len(e.open) + omittedRoom + 1
	const valueShare = 8 // one long path must not push out the fields after it
	longest := e.limit / valueShare
	omitted := 0
	e.fields.Each(r, func(name string, v alert.Value) {
		frame := len(name) + len(` =""`)
		most := min(longest, room-frame)
		value := v.Text()
		if cost := paramLen(value); cost > most {
			if most < minValue {
				omitted++
				return
			}
			value = alert.Cut(value, most, paramLen)
		}
		dst = append(dst, ' ')
		dst = append(dst, name...)
		dst = append(dst, '=', '"')
		dst = appendParam(dst, value)
		dst = append(dst, '"')
		room -= frame + paramLen(value)
	})
	if omitted > 0 {
		dst = append(dst, ` omitted="`...)
		dst = strconv.AppendInt(dst, int64(omitted), 10)
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendTimestamp writes microseconds, the most that RFC 5424 allows. A time it cannot write is
// the nil value.
func appendTimestamp(dst []byte, t time.Time) []byte {
	t = t.UTC()
	if year := t.Year(); year < 0 || year > 9999 || t.IsZero() {
		return append(dst, nilValue...)
	}
	return t.AppendFormat(dst, timeLayout)
}

// headerField makes s fit for the header: printable ASCII without spaces, what is not becomes an
// underscore, and not longer than most.
func headerField(s string, most int) string {
	if s == "" {
		return nilValue
	}
	clean := []byte(s[:min(len(s), most)])
	for i, c := range clean {
		if c <= ' ' || c >= 0x7f {
			clean[i] = '_'
		}
	}
	return string(clean)
}

// paramLen is how many bytes a text takes inside a PARAM-VALUE.
func paramLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if mustEscape(s[i]) {
			n++
		}
	}
	return n
}

// appendParam escapes what RFC 5424 section 6.3.3 says. Controls and bytes that are not UTF-8 were
// escaped by alert.Escape before.
func appendParam(dst []byte, s string) []byte {
	for i := range len(s) {
		if mustEscape(s[i]) {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return dst
}

func mustEscape(c byte) bool { return c == '"' || c == '\\' || c == ']' }

func byteLen(s string) int { return len(s) }
