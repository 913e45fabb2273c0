package gauntlet

import (
	"crypto/tls"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/parse"
)

// secret is what must not come to the server, with all that is said behind it.
const secret = "sallyport-secret"

// saying is one thing that a hostile client says to a server that it may ask for other things.
type saying struct {
	name  string
	port  int    // of the server, which says by which rules it is governed
	udp   bool   // else TCP
	bytes string // with the secret in them
	piece int    // bytes in a segment; 0: all
	ask   string // not empty: a name that the client has asked the resolver for before, which has the server's address for all
	limit string // of what gets through
}

// Ports of the server outside.
const (
	webPort   = 8080 // requests for /open at site.example
	anyPort   = 8081 // requests for /open at any site
	namedPort = 8443 // TLS for api.example
	dnsPort   = 53   // names below good.example, and site.example
	dotPort   = 853  // whatever it is
)

// byBeginning is the limit of what is said in parts.
const byBeginning = "what a request or query begins with has left when its end, by which it is judged, is denied: to a server that may be asked for other things"

// asking is what governs the pod.
const asking = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: gauntlet, namespace: default}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
  - name: asks
    egress:
    - toCIDR: [SERVER4/32]
      toPorts:
      - {ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: "GET|POST", path: "/open(/.*)?", host: "site\\.example"}]}}
      - {ports: [{port: "8081", protocol: TCP}], rules: {http: [{method: GET, path: "/open(/.*)?"}]}}
      - {ports: [{port: "8443", protocol: TCP}], serverNames: [api.example]}
      - {ports: [{port: "53"}], rules: {dns: [{matchPattern: "**.good.example"}, {matchName: site.example}]}}
      - {ports: [{port: "853", protocol: TCP}]}
`

// head is a request's head for a site, with more lines.
func head(line, host string, more ...string) string {
	return strings.Join(append([]string{line + " HTTP/1.1", "Host: " + host}, more...), "\r\n") + "\r\n\r\n"
}

// sayings are all of them, in the order of the table.
func sayings(t testing.TB) []saying {
	t.Helper()
	return append(requestSayings(), append(helloSayings(t), nameSayings()...)...)
}

func requestSayings() []saying {
	const site = "site.example"
	denied, open := head("GET /"+secret, site), head("GET /open", site)
	post := func(more ...string) string { return head("POST /open", site, more...) }
	all := []saying{
		{name: "a path that no rule has", bytes: denied},
		{name: "the same, byte by byte", bytes: denied, piece: 1},
		{name: "the same, cut inside the path", bytes: denied, piece: 9},
		{name: "the beginning of such a request, and no end", bytes: "GET /" + secret, limit: byBeginning},
		{name: "the same behind an allowed request (pipelining)", bytes: open + denied},
		{name: "another host", bytes: head("GET /open/"+secret, "evil.example")},
		{name: "two hosts", bytes: head("GET /open/"+secret, site, "Host: evil.example")},
		{name: "a target with another host (absolute form)", bytes: head("GET http://evil.example/open/"+secret, site)},
		{name: "dot segments", bytes: head("GET /open/../"+secret, site)},
		{name: "encoded dot segments", bytes: head("GET /open/%2e%2e/"+secret, site)},
		{name: "an encoded slash", bytes: head("GET /open/..%2f"+secret, site)},
		{name: "an encoded NUL", bytes: head("GET /open%00/"+secret, site)},
		{name: "two slashes", bytes: head("GET //"+secret, site)},
		{name: "both lengths (CL.TE smuggling)", bytes: post("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + denied},
		{name: "both lengths (TE.CL smuggling)", bytes: post("Transfer-Encoding: chunked", "Content-Length: 4") + "5c\r\n" + denied + "0\r\n\r\n"},
		{name: "two lengths", bytes: post("Content-Length: 0", "Content-Length: 100") + denied},
		{name: "an obscured Transfer-Encoding", bytes: post("Transfer-Encoding: xchunked") + "0\r\n\r\n" + denied},
		{name: "a blank before a colon", bytes: post("Transfer-Encoding : chunked") + "0\r\n\r\n" + denied},
		{name: "a folded header", bytes: post("X-A: b", " Transfer-Encoding: chunked") + denied},
		{name: "a bare line feed", bytes: post("X-A: b\nTransfer-Encoding: chunked") + "0\r\n\r\n" + denied},
		{name: "a chunk longer than 64 bits", bytes: post("Transfer-Encoding: chunked") + "10000000000000005\r\nabcde\r\n0\r\n\r\n" + denied},
		{name: "behind a body", bytes: post("Content-Length: 4") + "body" + denied},
		{name: "HTTP/0.9", bytes: "GET /" + secret + "\r\n"},
		{name: "CONNECT", bytes: head("CONNECT "+secret+":443", site)},
		{name: "an upgrade", bytes: head("GET /open/"+secret, site, "Connection: Upgrade", "Upgrade: h2c")},
		{name: "a request behind one for WebSocket, before its answer", bytes: head("GET /open", site, "Connection: Upgrade", "Upgrade: websocket") + denied},
		{name: "HTTP/2 without TLS", bytes: h2Asks("/" + secret)},
		{name: "the same, byte by byte (HTTP/2)", bytes: h2Asks("/" + secret), piece: 1},
		{name: "the same, behind an allowed request (HTTP/2)", bytes: h2Asks("/open", "/"+secret)},
		{name: "what only begins as HTTP/2", bytes: h2Preface + secret},
		{name: "a head of more than 8 KiB", bytes: head("GET /open", site, "X-A: "+strings.Repeat("a", 9000), "X-B: "+secret)},
		{name: "no HTTP", bytes: "EHLO " + secret + "\r\n"},
		{name: "a TLS stack of its own, where requests are read", bytes: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + record(secret)},
	}
	for i := range all {
		all[i].port = webPort
	}
	return append(all, saying{
		name: "another host than the address was resolved by (domain fronting)", port: anyPort, ask: site,
		bytes: head("GET /open/"+secret, "evil.example"),
	})
}

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// h2Asks are requests for paths over HTTP/2, without a byte of Huffman's code.
func h2Asks(paths ...string) string {
	const site = "site.example"
	said, stream := h2Preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00", 1
	for _, path := range paths {
		block := "\x82\x86\x01" + string(rune(len(site))) + site + "\x04" + string(rune(len(path))) + path
		said += "\x00\x00" + string(rune(len(block))) + "\x01\x05\x00\x00\x00" + string(rune(stream)) + block
		stream += 2
	}
	return said
}

// record is application data of TLS.
func record(text string) string {
	return "\x17\x03\x03" + string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
}

func helloSayings(t testing.TB) []saying {
	t.Helper()
	hello := func(name string) string {
		return string(parse.MakeHello(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
	}
	const change = "\x14\x03\x03\x00\x01\x01"
	good, evil := hello("api.example"), hello("dns.example")
	all := []saying{
		{name: "TLS for another name, as of a resolver over HTTPS", bytes: evil + record(secret)},
		{name: "the same, byte by byte", bytes: evil + record(secret), piece: 1},
		{name: "TLS for no name", bytes: hello("") + record(secret)},
		{name: "another name in a second ClientHello", bytes: good + change + evil + record(secret)},
		{name: "early data", bytes: early(good) + record(secret)},
		{name: "no TLS, where names are read", bytes: secret, limit: byBeginning},
	}
	for i := range all {
		all[i].port = namedPort
		if all[i].piece == 1 {
			all[i].name = "TLS for another name, byte by byte"
		}
	}
	return append(all, saying{
		name: "DNS over TLS to an address that is allowed unread", port: dotPort, bytes: evil + record(secret),
		limit: "what a rule allows without `serverNames`, `rules.http` or `rules.dns` nobody reads: name what resolvers of that kind may be asked for",
	})
}

// early is a ClientHello that offers data at once (0-RTT): one more extension at its end, and three lengths.
func early(hello string) string {
	const extension, handshakeAt, randomAt = "\x00\x2a\x00\x00", 5, 5 + 4 + 2 + 32
	b := []byte(hello + extension)
	grow := func(at int) {
		binary.BigEndian.PutUint16(b[at:], binary.BigEndian.Uint16(b[at:])+uint16(len(extension)))
	}
	at := randomAt + 1 + int(b[randomAt])                  // behind the session id
	at += 2 + int(binary.BigEndian.Uint16(b[at:]))         // behind the ciphers
	at += 1 + int(b[at])                                   // behind the compressions
	for _, length := range []int{3, handshakeAt + 2, at} { // of the record, the message (the lower bytes), the extensions
		grow(length)
	}
	return string(b)
}

// nameSayings carry the secret in a name.
func nameSayings() []saying {
	query := func(labels ...string) string {
		b := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
		for _, l := range labels {
			b += string(rune(len(l))) + l
		}
		return b + "\x00\x00\x01\x00\x01"
	}
	evil := query(secret, "evil", "example")
	two := query("www", "good", "example") + evil[12:]
	two = two[:4] + "\x00\x02" + two[6:]
	overTCP := func(m string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(m)))) + m }
	return []saying{
		{name: "a name that may not be asked for (DNS tunnel)", port: dnsPort, udp: true, bytes: evil},
		{name: "the same over TCP", port: dnsPort, bytes: overTCP(evil)},
		{name: "the same over TCP, byte by byte", port: dnsPort, bytes: overTCP(evil), piece: 1},
		{name: "the beginning of such a query over TCP", port: dnsPort, bytes: overTCP(evil)[:40], limit: byBeginning},
		{name: "a second question", port: dnsPort, udp: true, bytes: two},
		{name: "no DNS on its port", port: dnsPort, udp: true, bytes: secret},
		{
			name: "data in names that may be asked for (DNS tunnel)", port: dnsPort, udp: true, bytes: query(secret, "good", "example"),
			limit: "a name below a domain that `rules.dns` allow may be anything: a hundred of them are told (`names.tunnel`)",
		},
	}
}
