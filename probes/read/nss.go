package read

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// The functions of NSS by name, all of its sslsecur.c but the first: between them in the code are those that its table
// of a connection with TLS has, which have no names in a library that is stripped.
const (
	nssImport = "SSL_ImportFD"
	nssForce  = "SSL_ForceHandshake"
)

// nssNames lists what must be there of NSS.
func nssNames() []string {
	return []string{nssImport, nssForce, "SSL_ResetHandshake", "SSL_DataPending", "SSL_InvalidateSession"}
}

// maxTables bounds the tables that are compared with each other; the library has a handful.
const maxTables = 256

// nssOps is what NSS does with a socket, with and without TLS (sslSocketOps of its sslimpl.h), by place in the table,
// as addresses.
type nssOps [12]uint64

// The places of what is used of it.
const (
	opAccept = 1 // NULL in both
	opBind   = 2 // the same in both, as are the next and the last two
	opListen = 3
	opClose  = 5
	opRecv   = 6
	opSend   = 7
	opRead   = 8
	opWrite  = 9
	opPeer   = 10
	opSelf   = 11
)

// isPair says whether both can be tables of NSS, of the same one.
func (a *nssOps) isPair(b *nssOps) bool {
	for i := range a {
		shared := i == opAccept || i == opBind || i == opListen || i == opPeer || i == opSelf
		if (a[i] == b[i]) != shared || (i == opAccept) != (a[i] == 0) || (i == opAccept) != (b[i] == 0) {
			return false
		}
	}
	return true
}

// code is where functions are.
type code struct {
	at        func(address uint64) (offset uint64, ok bool)
	low, high uint64 // offsets: the part in which the functions are that a connection with TLS has
}

// has says whether what closes, reads and writes lies in the part.
func (c *code) has(ops *nssOps) bool {
	for _, op := range []int{opClose, opRecv, opSend, opRead, opWrite} {
		at, ok := c.at(ops[op])
		if !ok || at < c.low || at > c.high {
			return false
		}
	}
	return true
}

// nssTables finds the two tables among the words of the library's data: with TLS and without.
func nssTables(words []uint64, c *code) (secure, bare *nssOps, err error) {
	var tables []*nssOps
	for i := 0; i+len(nssOps{}) <= len(words); i++ {
		ops := nssOps(words[i:])
		if _, ok := c.at(ops[0]); ok && ops[opAccept] == 0 && ops[opBind] != 0 {
			tables = append(tables, &ops)
		}
	}
	if len(tables) > maxTables {
		return nil, nil, fmt.Errorf("%w: %d tables of functions", elfsym.ErrFormat, len(tables))
	}
	for _, a := range tables {
		for _, b := range tables {
			if !a.isPair(b) || !c.has(a) || c.has(b) {
				continue
			}
			if secure != nil {
				return nil, nil, fmt.Errorf("%w: its table of functions is not the only one", elfsym.ErrCode)
			}
			secure, bare = a, b
		}
	}
	if secure == nil {
		return nil, nil, fmt.Errorf("%w: its table of functions is not found", elfsym.ErrCode)
	}
	return secure, bare, nil
}

// placeNSS places the programs of NSS, with told also those that bring answers. Where its functions are not where they are expected, that is ErrCode.
func placeNSS(f *elfsym.File, found map[string]elfsym.Func, told bool) ([]point, error) {
	var file []uint64
	for _, name := range nssNames() {
		at, ok := found[name]
		if !ok {
			return nil, fmt.Errorf("%w: %s", elfsym.ErrNotFound, name)
		}
		if name != nssImport {
			file = append(file, at.Offset)
		}
	}
	words, err := f.Words(".data.rel.ro")
	if err != nil {
		return nil, err
	}
	secure, bare, err := nssTables(words, &code{f.CodeAt, slices.Min(file), slices.Max(file)})
	if err != nil {
		return nil, err
	}
	points := []point{
		{program: progNSSImport, offset: found[nssImport].Offset, returns: true},
		{program: progNSSUse, offset: found[nssForce].Offset},
	}
	type call struct {
		address uint64
		program string
		returns bool
	}
	calls := []call{
		{secure[opRecv], progUse, false},
		{secure[opRead], progUse, false},
		{secure[opSend], progNSSWrite, false},
		{secure[opSend], progNSSWrote, true},
		{secure[opWrite], progNSSWrite, false},
		{secure[opWrite], progNSSWrote, true},
		{bare[opSend], progNSSSend, false},
		{bare[opClose], progEnd, false},
	}
	if told {
		calls = append(calls, call{secure[opRecv], progRead, false}, call{secure[opRecv], progGotN, true},
			call{secure[opRead], progRead, false}, call{secure[opRead], progGotN, true})
	}
	for _, c := range calls {
		at, ok := f.CodeAt(c.address)
		if !ok {
			return nil, fmt.Errorf("%w: a function at %#x", elfsym.ErrFormat, c.address)
		}
		points = append(points, point{program: c.program, offset: at, returns: c.returns})
	}
	return points, nil
}
