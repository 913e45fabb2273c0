package parse

import "fmt"

// DNSVector is a message, and what is read of it.
type DNSVector struct {
	Name, Message string
	Answer        bool // it is to be one
	OK            bool // it is read
	Addresses     int  // that it tells for the name in its question
}

// DNSVectors are messages of each kind that is read, and of each that is refused.
func DNSVectors() []DNSVector {
	question := "\x03API\x07Example\x00\x00\x01\x00\x01"
	head := func(flags, an string) string { return "\x00\x07" + flags + "\x00\x01" + an + "\x00\x00\x00\x00" }
	record := func(owner, kind, data string) string {
		return owner + kind + "\x00\x01\x00\x00\x00\x3c" + fmt.Sprintf("\x00%c", len(data)) + data
	}
	return []DNSVector{
		{"a query", head("\x01\x00", "\x00\x00") + question, false, true, 0},
		{"an answer for a query", head("\x81\x80", "\x00\x00") + question, false, false, 0},
		{"a query for an answer", head("\x01\x00", "\x00\x00") + question, true, false, 0},
		{"a query with answers", head("\x01\x00", "\x00\x01") + question + record("\xc0\x0c", "\x00\x01", "abcd"), false, false, 0},
		{"another opcode", head("\x29\x00", "\x00\x00") + question, false, false, 0},
		{"nothing", "", false, false, 0},
		{"no question", "\x00\x07\x81\x80\x00\x00\x00\x00\x00\x00\x00\x00", true, false, 0},
		{"two questions", "\x00\x07\x81\x80\x00\x02\x00\x00\x00\x00\x00\x00" + question + question, true, false, 0},
		{"an address", head("\x81\x80", "\x00\x01") + question + record("\xc0\x0c", "\x00\x01", "abcd"), true, true, 1},
		{"an address of three bytes", head("\x81\x80", "\x00\x01") + question + record("\xc0\x0c", "\x00\x01", "abc"), true, false, 0},
		{"an address of the name spelt otherwise", head("\x81\x80", "\x00\x01") + question + record("\x03apI\x07eXample\x00", "\x00\x01", "abcd"), true, true, 1},
		{"an address of another name", head("\x81\x80", "\x00\x01") + question + record("\xc0\x10", "\x00\x01", "abcd"), true, true, 0},
		{"an alias and its address", head("\x81\x80", "\x00\x02") + question + record("\xc0\x0c", "\x00\x05", "\x01x\x00") + record("\x01X\x00", "\x00\x01", "abcd"), true, true, 1},
		{"the address before its alias", head("\x81\x80", "\x00\x02") + question + record("\x01x\x00", "\x00\x01", "abcd") + record("\xc0\x0c", "\x00\x05", "\x01X\x00"), true, true, 1},
		{"an alias of another name", head("\x81\x80", "\x00\x02") + question + record("\xc0\x10", "\x00\x05", "\x01x\x00") + record("\x01x\x00", "\x00\x01", "abcd"), true, true, 0},
		{"aliases in a circle", head("\x81\x80", "\x00\x03") + question + record("\xc0\x0c", "\x00\x05", "\x01x\x00") + record("\x01x\x00", "\x00\x05", "\xc0\x0c") + record("\x01x\x00", "\x00\x01", "abcd"), true, true, 1},
		{"an alias with bytes behind it", head("\x81\x80", "\x00\x01") + question + record("\xc0\x0c", "\x00\x05", "\x01x\x00\x00"), true, false, 0},
		{"a name that points to itself", head("\x81\x80", "\x00\x00") + "\xc0\x0c\x00\x01\x00\x01", true, false, 0},
		{"a name of the reserved kind", head("\x81\x80", "\x00\x00") + "\x40\x00\x00\x01\x00\x01", true, false, 0},
		{"more records than there are", head("\x81\x80", "\xff\xff") + question, true, false, 0},
		{"bytes behind the last record", head("\x81\x80", "\x00\x00") + question + "x", true, false, 0},
	}
}
