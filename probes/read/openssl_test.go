package read

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// What all functions call that write is found where the filter for BIO calls it past them, and a library in which it is
// not found has no tap.
func TestInnerWrite(t *testing.T) {
	const write, ex, ex2, inner, other = 0x100, 0x200, 0x300, 0x400, 0x500
	for name, c := range map[string]struct {
		functions map[string]uint64
		calls     map[uint64][]uint64
		offset    uint64
		needed    bool
		err       error
	}{
		"OpenSSL 3.0":              {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{write: {inner, 1}, ex: {2, inner}}, inner, true, nil},
		"OpenSSL 3.5":              {map[string]uint64{sslWrite: write, sslEx: ex, sslEx2: ex2, sslFilter: other}, map[uint64][]uint64{write: {inner}, ex: {ex2}, ex2: {inner}}, inner, true, nil},
		"not stripped":             {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other, sslInner: inner}, nil, inner, true, nil},
		"LibreSSL":                 {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{write: {other}, ex: {write}}, 0, false, nil},
		"BoringSSL":                {map[string]uint64{sslWrite: write, sslFilter: other}, nil, 0, false, nil},
		"no filter":                {map[string]uint64{sslWrite: write, sslEx: ex}, nil, 0, false, nil},
		"inlined":                  {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{write: {1}, ex: {2}}, 0, false, elfsym.ErrCode},
		"one of several":           {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{write: {inner, 1}, ex: {1, inner}}, 0, false, elfsym.ErrCode},
		"code that cannot be read": {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{write: {inner}}, 0, false, elfsym.ErrFormat},
		"code of the other":        {map[string]uint64{sslWrite: write, sslEx: ex, sslFilter: other}, map[uint64][]uint64{ex: {inner}}, 0, false, elfsym.ErrFormat},
	} {
		found := map[string]elfsym.Func{}
		for name, offset := range c.functions {
			found[name] = elfsym.Func{Name: name, Offset: offset}
		}
		offset, needed, err := innerWrite(func(fn elfsym.Func) ([]uint64, error) {
			if calls, ok := c.calls[fn.Offset]; ok {
				return slices.Clone(calls), nil
			}
			return nil, elfsym.ErrFormat
		}, found)
		if offset != c.offset || needed != c.needed || !errors.Is(err, c.err) {
			t.Errorf("%s: %#x, %v, %v", name, offset, needed, err)
		}
	}
}

// A function that has a copy of the inner one inside is watched by itself, as in Node.
func TestOuterWrites(t *testing.T) {
	const write, ex, ex2, inner = 0x100, 0x200, 0x300, 0x400
	calls := map[uint64][]uint64{write: {1, inner}, ex: {1, 2}}
	found := map[string]elfsym.Func{sslWrite: {Offset: write}, sslEx: {Offset: ex}, sslEx2: {Offset: ex2}}
	got := outerWrites(func(fn elfsym.Func) ([]uint64, error) {
		if of, ok := calls[fn.Offset]; ok {
			return of, nil
		}
		return nil, elfsym.ErrCode
	}, found, inner)
	if want := []uint64{write}; !slices.Equal(got, want) {
		t.Errorf("%#x, want %#x", got, want)
	}
}

// The library of the distribution, where it is installed, is read where all its functions write, and there alone.
func TestInspectOpenSSL(t *testing.T) {
	paths, err := filepath.Glob("/usr/lib/*-linux-gnu/libssl.so.3")
	if err != nil || len(paths) == 0 {
		t.Skipf("libssl3 is not installed: %v", err)
	}
	f, err := os.Open(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lib, points, err := inspect(f, false)
	if err != nil || lib != OpenSSL {
		t.Fatalf("%q, %v", lib, err)
	}
	writes := map[string]int{}
	for _, p := range points {
		if slices.Contains([]string{progWriteN, progWroteN, progWriteEx, progWriteEx2}, p.program) {
			writes[p.program]++
		}
	}
	delete(writes, progWriteEx2) // by the version either
	if writes[progWriteEx] == 0 {
		writes[progWriteEx]++
	}
	if want := map[string]int{progWriteEx: 1, progWroteN: 1}; !maps.Equal(writes, want) {
		t.Errorf("writes are watched by %v", points)
	}
}
