package parse

import "strings"

// head is a request's head with these lines.
func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// Vector is what a client sends on a connection and the flaw that it ends with.
type Vector struct {
	Name, Stream string
	Flaw         Flaw // where a client may ask for WebSocket, as it may on the host
}

// FlawElsewhere is the flaw where it may not, as in a library's tap.
func (v Vector) FlawElsewhere() Flaw {
	if strings.HasPrefix(v.Name, "WebSocket") {
		return FlawTunnel
	}
	return v.Flaw
}

// Vectors are connections of HTTP/1, or of what is not: one of each kind that is read, and of each that is refused.
func Vectors() []Vector {
	get, host := "GET / HTTP/1.1", "Host: a"
	return append([]Vector{
		{"a request", head(get, host), Sound},
		{"two", head(get, host) + head("HEAD /x HTTP/1.1", host), Sound},
		{"a body by its length", head("POST / HTTP/1.1", host, "Content-Length: 3") + "abc" + head(get, host), Sound},
		{"a body in chunks", head("POST / HTTP/1.1", host, "Transfer-Encoding: chunked") + "3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n" + head(get, host), Sound},
		{"a body that looks like a request", head("POST / HTTP/1.1", host, "Content-Length: 18") + "GET /x HTTP/1.1\r\n\n" + head(get, host), Sound},
		{"HTTP/1.0 without a host", head("GET / HTTP/1.0"), Sound},
		{"a query", head("GET /a?b=/../%2f HTTP/1.1", host), Sound},
		{"codes of letters", head("GET /%41%2d%7E%e4%25 HTTP/1.1", host), Sound},
		{"parameters", head("GET /a;b=c/d HTTP/1.1", host), Sound},
		{"an absolute target", head("GET http://a/x HTTP/1.1", host), Sound},
		{"an absolute target without a path", head("GET http://a HTTP/1.1", host), Sound},
		{"an absolute target with a query alone", head("GET http://A?b HTTP/1.1", host), Sound},
		{"OPTIONS of everything", head("OPTIONS * HTTP/1.1", host), Sound},
		{"Expect", head("POST / HTTP/1.1", host, "Expect: 100-continue", "Content-Length: 1") + "x", Sound},
		{"an empty value and blanks", head(get, host, "X:", "Y: \t z \t"), Sound},
		{"TLS", "\x16\x03\x01\x02\x00", FlawTLS},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FlawHTTP2},
		{"a preface behind a request", head(get, host) + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FlawHTTP2},
		{"something else", "\x00\x01", FlawSyntax},
		{"HTTP/0.9", "GET /\r\n", FlawSyntax},
		{"HTTP/2.0 in the line", head("GET / HTTP/2.0", host), FlawSyntax},
		{"two blanks", head("GET  / HTTP/1.1", host), FlawSyntax},
		{"a blank before the line", " " + head(get, host), FlawSyntax},
		{"an empty line before it", "\r\n" + head(get, host), FlawSyntax},
		{"no path", head("GET x HTTP/1.1", host), FlawSyntax},
		{"https in the target", head("GET https://a/ HTTP/1.1", host), FlawSyntax},
		{"a user in the target", head("GET http://u@a/ HTTP/1.1", host), FlawSyntax},
		{"a bare LF in the line", "GET / HTTP/1.1\nHost: a\r\n\r\n", FlawLineEnd},
		{"a bare LF in a header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", FlawLineEnd},
		{"a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", FlawLineEnd},
		{"a bare CR", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", FlawLineEnd},
		{"a folded header", head(get, "X: a", " b", host), FlawFolded},
		{"a blank before the colon", head(get, "X : a", host), FlawSyntax},
		{"a header without a colon", head(get, "X", host), FlawSyntax},
		{"a NUL in a value", head(get, "X: a\x00b", host), FlawSyntax},
		{"two lengths", head(get, host, "Content-Length: 1", "Content-Length: 1") + "x", FlawFraming},
		{"a length of two", head(get, host, "Content-Length: 1, 1") + "x", FlawFraming},
		{"a length with a sign", head(get, host, "Content-Length: +1") + "x", FlawFraming},
		{"a length in blanks", head(get, host, "Content-Length: 1 0") + "x", FlawFraming},
		{"no length", head(get, host, "Content-Length:"), FlawFraming},
		{"a length without end", head(get, host, "Content-Length: 1000000000000000"), FlawFraming},
		{"a length and an encoding", head(get, host, "Content-Length: 1", "Transfer-Encoding: chunked"), FlawFraming},
		{"an encoding and a length", head(get, host, "Transfer-Encoding: chunked", "Content-Length: 1"), FlawFraming},
		{"an unknown encoding", head(get, host, "Transfer-Encoding: gzip, chunked"), FlawFraming},
		{"an encoding that is almost chunked", head(get, host, "Transfer-Encoding: xchunked"), FlawFraming},
		{"an encoding of HTTP/1.0", head("GET / HTTP/1.0", host, "Transfer-Encoding: chunked"), FlawFraming},
		{"a chunk without a size", head(get, host, "Transfer-Encoding: chunked") + "\r\n", FlawFraming},
		{"a chunk of a blank size", head(get, host, "Transfer-Encoding: chunked") + "3 \r\nabc\r\n", FlawFraming},
		{"a chunk longer than its size", head(get, host, "Transfer-Encoding: chunked") + "3\r\nabcd\r\n", FlawFraming},
		{"a length among the trailers", head(get, host, "Transfer-Encoding: chunked") + "0\r\nContent-Length: 1\r\n\r\n", FlawFraming},
		{"no host", head(get, "X: a"), FlawHost},
		{"two hosts", head(get, host, host), FlawHost},
		{"two hosts in one", head(get, "Host: a, b"), FlawHost},
		{"a host with a blank", head(get, "Host: a b"), FlawHost},
		{"another host in the target", head("GET http://b/ HTTP/1.1", host), FlawHost},
		{"another port in the target", head("GET http://a:80/ HTTP/1.1", host), FlawHost},
		{"a dot segment", head("GET /a/../b HTTP/1.1", host), FlawPath},
		{"a dot segment at the end", head("GET /a/.. HTTP/1.1", host), FlawPath},
		{"one dot", head("GET /./a HTTP/1.1", host), FlawPath},
		{"a dot segment in codes", head("GET /a/%2e%2E/b HTTP/1.1", host), FlawPath},
		{"a dot segment before a parameter", head("GET /a/..;/b HTTP/1.1", host), FlawPath},
		{"an empty segment", head("GET //a HTTP/1.1", host), FlawPath},
		{"an encoded slash", head("GET /a%2fb HTTP/1.1", host), FlawPath},
		{"an encoded backslash", head("GET /a%5Cb HTTP/1.1", host), FlawPath},
		{"an encoded NUL", head("GET /a%00b HTTP/1.1", host), FlawPath},
		{"a backslash", head(`GET /a\b HTTP/1.1`, host), FlawPath},
		{"half a code", head("GET /a%4 HTTP/1.1", host), FlawPath},
		{"a fragment", head("GET /a#b HTTP/1.1", host), FlawPath},
		{"a long head", head(get, host, "X: "+strings.Repeat("x", 8192)), FlawLong},
		{"a long target", head("GET /"+strings.Repeat("x", 8192)+" HTTP/1.1", host), FlawLong},
	}, tunnels()...)
}

// tunnels ask for something else than HTTP/1.
func tunnels() []Vector {
	get, host := "GET / HTTP/1.1", "Host: a"
	return []Vector{
		{"a tunnel", head("CONNECT a:1 HTTP/1.1", host), FlawTunnel},
		{"WebSocket", head(get, host, "Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13"), Sound},
		{"WebSocket without a body", head(get, host, "Content-Length: 0", "Upgrade:\twebsocket "), Sound},
		{"WebSocket again", head(get, host, "Upgrade: websocket") + head(get, host, "Upgrade: websocket"), Sound},
		{"h2c", head(get, host, "Upgrade: h2c"), FlawTunnel},
		{"an Upgrade to something longer", head(get, host, "Upgrade: websockets"), FlawTunnel},
		{"an Upgrade to something shorter", head(get, host, "Upgrade: websocke"), FlawTunnel},
		{"an Upgrade to nothing", head(get, host, "Upgrade:"), FlawTunnel},
		{"an Upgrade to one of two", head(get, host, "Upgrade: websocket, h2c"), FlawTunnel},
		{"an Upgrade to two", head(get, host, "Upgrade: websocket h2c"), FlawTunnel},
		{"two of Upgrade", head(get, host, "Upgrade: websocket", "Upgrade: websocket"), FlawTunnel},
		{"an Upgrade with a body", head(get, host, "Upgrade: websocket", "Content-Length: 1") + "x", FlawTunnel},
		{"an Upgrade with chunks", head(get, host, "Transfer-Encoding: chunked", "Upgrade: websocket") + "0\r\n\r\n", FlawTunnel},
		{"an Upgrade of HTTP/1.0", head("GET / HTTP/1.0", host, "Upgrade: websocket"), FlawTunnel},
		{"an Upgrade among the trailers", head(get, host, "Transfer-Encoding: chunked") + "0\r\nUpgrade: websocket\r\n\r\n", FlawTunnel},
	}
}
