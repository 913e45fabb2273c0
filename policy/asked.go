package policy

import (
	"errors"
	"slices"
)

// Question is what can be asked about a process: whether a call may be, or what is said inside of one. Of Query, Request and
// ServerName at most one is there; without any the call alone is asked about.
type Question struct {
	Call       Call
	Query      *string  // the name that a DNS query asks for, in the form of NormalName
	Request    *Request // its Call is not looked at
	ServerName *string  // that a TLS client asks for, in the form of NormalName
}

// Check says what makes no sense in a question.
func (q *Question) Check() error {
	c, inside := &q.Call, 0
	for _, there := range []bool{q.Query != nil, q.Request != nil, q.ServerName != nil} {
		if there {
			inside++
		}
	}
	switch {
	case inside > 1:
		return errors.New("a query, a request and a server name are three questions")
	case c.Listen && (inside > 0 || c.Names != nil || c.ICMPType != nil):
		return errors.New("who listens has no peer yet, who says something or has a name")
	case c.Direction == Ingress && (q.Query != nil || c.Names != nil):
		return errors.New("names and queries are about a peer that is called")
	case q.Query != nil && !slices.Contains([]uint8{ipProtoTCP, ipProtoUDP}, c.Protocol):
		return errors.New("a query goes over UDP or TCP")
	case (q.Request != nil || q.ServerName != nil) && c.Protocol != ipProtoTCP:
		return errors.New("a request and a server name are about a connection over TCP")
	case c.ICMPType != nil && !c.IsICMP():
		return errors.New("only messages of ICMP and ICMPv6 have a type of it")
	}
	return nil
}
