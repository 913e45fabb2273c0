package parse

import (
	"bytes"
	"strings"
)

// HelloVector is what a client of TLS sends, or what is none.
type HelloVector struct {
	Name   string
	Stream []byte
	Flaw   Flaw   // of the first ClientHello
	Then   string // what comes behind it, as ClientHello.Follow says; "" where it is not whole
}

// HelloVectors are ClientHellos of each kind that is read, and of each that is refused; and what may and may not come behind one.
func HelloVectors() []HelloVector {
	host := func(name string) string { return "\x00" + sized(name) }
	name := func(text string) string { return extension(0, sized(host(text))) }
	whole := helloWith(name("a"))
	named, other, longer, shorter, nameless := helloWith(name("api")), helloWith(name("apj")), helloWith(name("api.x")), helloWith(name("ap")), helloWith()
	change := []byte("\x14\x03\x03\x00\x01\x01")
	data := []byte("\x17\x03\x03\x00\x01x")
	return []HelloVector{
		{"a name", whole, HelloSound, "more"},
		{"bytes behind it", append(bytes.Clone(whole), "more"...), HelloSound, "over"},
		{"two extensions of names", helloWith(name("a"), name("b")), HelloName, ""},
		{"two names in one", helloWith(extension(0, sized(host("a")+host("b")))), HelloName, ""},
		{"a name of another kind", helloWith(extension(0, sized("\x01"+sized("a")))), HelloName, ""},
		{"an empty name", helloWith(name("")), HelloName, ""},
		{"a dot behind it", helloWith(name("a.")), HelloName, ""},
		{"a dot before it", helloWith(name(".a")), HelloName, ""},
		{"two dots", helloWith(name("a..b")), HelloName, ""},
		{"a NUL in it", helloWith(name("a\x00b")), HelloName, ""},
		{"a blank in it", helloWith(name("a b")), HelloName, ""},
		{"a long name", helloWith(name(strings.Repeat("a", 256))), HelloName, ""},
		{"a name longer than said", helloWith(extension(0, sized(host("a")+"b"))), HelloName, ""},
		{"two lists of protocols", helloWith(extension(16, sized("\x02h2")), extension(16, sized("\x02h2"))), HelloMessage, ""},
		{"an empty protocol", helloWith(extension(16, sized("\x00\x02h2"))), HelloMessage, ""},
		{"a protocol past the list", helloWith(extension(16, sized("\x09h2"))), HelloMessage, ""},
		{"an extension past the end", helloWith("\x00\x2b\x00\x09x"), HelloMessage, ""},
		{"half an extension", helloWith("\x00\x2b\x00"), HelloMessage, ""},
		{"early data", helloWith(name("a"), extension(42, "")), HelloEarly, ""},
		{"plain HTTP", []byte("GET / HTTP/1.1\r\n"), HelloRecord, ""},
		{"SSL 2", []byte("\x80\x2e\x01\x03\x01"), HelloRecord, ""},
		{"application data", []byte("\x17\x03\x03\x00\x05hello"), HelloRecord, ""},
		{"an empty record", []byte("\x16\x03\x01\x00\x00"), HelloRecord, ""},
		{"a ServerHello", []byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), HelloMessage, ""},
		{"a message without end", []byte("\x16\x03\x01\x00\x04\x01\x7f\xff\xff"), HelloMessage, ""},
		{"an encrypted one inside", helloWith(name("decoy"), extension(0xfe0d, "\x00")), HelloSound, "more"},
		{"a preface of HTTP/2", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HelloRecord, ""},
		{"a second: the same", bytes.Join([][]byte{named, named}, nil), HelloSound, "over"},
		{"a second: the same, behind change", bytes.Join([][]byte{named, change, change, named, other}, nil), HelloSound, "over"},
		{"a second: none twice", bytes.Join([][]byte{nameless, nameless}, nil), HelloSound, "over"},
		{"a second: another", bytes.Join([][]byte{named, other}, nil), HelloSound, "bad 3"},
		{"a second: another, behind change", bytes.Join([][]byte{named, change, other}, nil), HelloSound, "bad 3"},
		{"a second: a longer one", bytes.Join([][]byte{named, longer}, nil), HelloSound, "bad 3"},
		{"a second: a shorter one", bytes.Join([][]byte{named, shorter}, nil), HelloSound, "bad 3"},
		{"a second: none any more", bytes.Join([][]byte{named, nameless}, nil), HelloSound, "bad 3"},
		{"a second: one that was not", bytes.Join([][]byte{nameless, named}, nil), HelloSound, "bad 3"},
		{"a second: in records", bytes.Join([][]byte{named, inRecords(other, 3)}, nil), HelloSound, "bad 3"},
		{"a second: data", bytes.Join([][]byte{named, data, other}, nil), HelloSound, "over"},
		{"a second: change alone", bytes.Join([][]byte{named, change}, nil), HelloSound, "more"},
		{"a second: an empty record", bytes.Join([][]byte{named, []byte("\x16\x03\x03\x00\x00")}, nil), HelloSound, "bad 1"},
		{"a second: endless change", bytes.Join([][]byte{named, bytes.Repeat(change, 100)}, nil), HelloSound, "bad 1"},
		{"a second: another in its record", bytes.Join([][]byte{append([]byte("\x16\x03\x01"), sized(string(named[5:])+"\x01")...)}, nil), HelloSound, "bad 2"},
	}
}

// inRecords splits a ClientHello of one record into several.
func inRecords(hello []byte, size int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(append(out, hello[0], hello[1], hello[2], byte(n>>8), byte(n)), body[:n]...)
		body = body[n:]
	}
	return out
}

// extension is one as it stands in a ClientHello.
func extension(kind int, body string) string {
	return string([]byte{byte(kind >> 8), byte(kind), byte(len(body) >> 8), byte(len(body))}) + body
}

// sized is text behind its length in two bytes.
func sized(text string) string { return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text }

// helloWith is a ClientHello of TLS 1.2 with these extensions.
func helloWith(extensions ...string) []byte {
	all := strings.Join(extensions, "")
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x02\xc0\x2f" + "\x01\x00" + sized(all)
	message := string([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}) + body
	return []byte("\x16\x03\x01" + sized(message))
}
