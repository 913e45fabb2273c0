package read

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// Functions of OpenSSL. Since 1.1.1 all that write are few lines around a function that is not exported, which its
// filter for BIO calls too: who writes by BIO_write calls none of the others.
const (
	sslWrite  = "SSL_write"
	sslEx     = "SSL_write_ex"
	sslEx2    = "SSL_write_ex2" // since 3.3; the inner function has its flags from then on
	sslInner  = "ssl_write_internal"
	sslFilter = "BIO_f_ssl"
)

// opensslNames lists what is looked for beside the functions that are watched by their names.
func opensslNames() []string { return []string{sslInner, sslFilter} }

// placeOpenSSL places the programs of OpenSSL, BoringSSL or LibreSSL. A library whose filter for BIO would write unseen
// is ErrCode.
func placeOpenSSL(f *elfsym.File, functions []function, found map[string]elfsym.Func) ([]point, error) {
	points, err := place(functions, found)
	if err != nil {
		return nil, err
	}
	inner, needed, err := innerWrite(f.Calls, found)
	if err != nil || !needed {
		return points, err
	}
	// What it is given is seen there and need not be seen once more outside.
	outer := outerWrites(f.Calls, found, inner)
	points = slices.DeleteFunc(points, func(p point) bool { return slices.Contains(outer, p.offset) })
	program := progWriteEx
	if _, ok := found[sslEx2]; ok {
		program = progWriteEx2
	}
	return append(points, point{program: program, offset: inner}, point{program: progWroteN, offset: inner, returns: true}), nil
}

// outerWrites lists where those functions are that write by calling the inner one. Compilers put a copy of it into some, and who
// writes by these does not pass it; nor is one listed whose code cannot be read. What is seen twice counts once.
func outerWrites(callsOf func(elfsym.Func) ([]uint64, error), found map[string]elfsym.Func, inner uint64) (out []uint64) {
	for _, name := range []string{sslWrite, sslEx, sslEx2} {
		fn, ok := found[name]
		if !ok {
			continue
		}
		if calls, err := callsOf(fn); err == nil && slices.Contains(calls, inner) {
			out = append(out, fn.Offset)
		}
	}
	return out
}

// innerWrite is the offset of the function that all functions call that write. needed is false where there is none, for
// the filter for BIO is not there or calls SSL_write. callsOf lists what a function calls.
func innerWrite(callsOf func(elfsym.Func) ([]uint64, error), found map[string]elfsym.Func) (offset uint64, needed bool, err error) {
	outer, ok := found[sslEx2]
	if !ok {
		outer, ok = found[sslEx]
	}
	if _, filters := found[sslFilter]; !ok || !filters {
		return 0, false, nil // BoringSSL, OpenSSL 1.1.0, or nobody can write by BIO
	}
	if inner, ok := found[sslInner]; ok {
		return inner.Offset, true, nil
	}
	calls, err := callsOf(outer)
	if err != nil {
		return 0, false, err
	}
	if slices.Contains(calls, found[sslWrite].Offset) {
		return 0, false, nil // LibreSSL
	}
	same, err := callsOf(found[sslWrite])
	if err != nil {
		return 0, false, err
	}
	calls = slices.DeleteFunc(calls, func(to uint64) bool { return !slices.Contains(same, to) })
	if len(calls) != 1 {
		return 0, false, fmt.Errorf("%w: %d functions may be what %s and %s write by", elfsym.ErrCode, len(calls), sslWrite, outer.Name)
	}
	return calls[0], true, nil
}
