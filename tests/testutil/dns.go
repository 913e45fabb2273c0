package testutil

import (
	"net"
	"slices"

	"golang.org/x/net/dns/dnsmessage"
)

// ServeDNS gives every query that comes to a connection, as bytes and what they say, to respond, and sends back what that
// returns, until the connection is closed. What is no query with one question gets nothing.
func ServeDNS(conn *net.UDPConn, respond func(query []byte, m *dnsmessage.Message) [][]byte) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		for _, reply := range respond(slices.Clone(b[:n]), &m) {
			_, _ = conn.WriteToUDPAddrPort(reply, from) // who waits for it says that it did not come
		}
	}
}
