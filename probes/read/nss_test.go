package read

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// nssData is data with the two tables of NSS in it: what a connection with TLS has lies at 0x200 of the code.
func nssData() []uint64 {
	return []uint64{
		0x300, 7, // another
		0x210, 0, 0x100, 0x101, 0x211, 0x212, 0x213, 0x214, 0x215, 0x216, 0x102, 0x103,
		0x104, 0, 0x100, 0x101, 0x105, 0x106, 0x107, 0x108, 0x109, 0x10a, 0x102, 0x103,
		0x300, 0,
	}
}

// nssCode is the code of it, which is in the file where it is in memory.
func nssCode() *code {
	return &code{at: func(address uint64) (uint64, bool) { return address, address >= 0x100 && address < 0x400 }, low: 0x200, high: 0x2ff}
}

func TestNSSTables(t *testing.T) {
	secure, bare, err := nssTables(nssData(), nssCode())
	if err != nil || secure[opSend] != 0x214 || secure[opClose] != 0x212 || bare[opSend] != 0x108 || bare[opClose] != 0x106 {
		t.Fatalf("%x, %x, %v", secure, bare, err)
	}
	const table = 2 // where the first begins
	for name, change := range map[string]func(words []uint64){
		"no table":                   func(words []uint64) { clear(words) },
		"another listen":             func(words []uint64) { words[table+opListen]++ },
		"one function for both":      func(words []uint64) { words[table+opRead] = 0x109 },
		"accept":                     func(words []uint64) { words[table+opAccept] = 0x220 },
		"a function that is no code": func(words []uint64) { words[table+opWrite] = 0x1000 },
		"a function elsewhere":       func(words []uint64) { words[table+opSend] = 0x310 },
		"both in the same place":     func(words []uint64) { copy(words[table+len(nssOps{}):], nssData()[table:table+len(nssOps{})]) },
	} {
		words := nssData()
		change(words)
		if _, _, err := nssTables(words, nssCode()); !errors.Is(err, elfsym.ErrCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := slices.Concat(nssData(), nssData())
	twice[len(nssData())+table+opSend]++
	if _, _, err := nssTables(twice, nssCode()); !errors.Is(err, elfsym.ErrCode) {
		t.Errorf("two tables: %v", err)
	}
	many := slices.Repeat(nssData(), maxTables)
	if _, _, err := nssTables(many, nssCode()); !errors.Is(err, elfsym.ErrFormat) {
		t.Errorf("many tables: %v", err)
	}
}

// The library of the distribution, where it is installed, has its functions found although it is stripped.
func TestInspectNSS(t *testing.T) {
	paths, err := filepath.Glob("/usr/lib/*-linux-gnu/libssl3.so")
	if err != nil || len(paths) == 0 {
		t.Skipf("libnss3 is not installed: %v", err)
	}
	f, err := os.Open(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lib, points, err := inspect(f, false)
	if err != nil || lib != NSS {
		t.Fatalf("%q, %v", lib, err)
	}
	seen := map[string]int{}
	for _, p := range points {
		seen[p.program]++
	}
	for program, want := range map[string]int{progNSSImport: 1, progNSSUse: 1, progNSSWrite: 2, progNSSWrote: 2, progNSSSend: 1, progUse: 2, progEnd: 1} {
		if seen[program] != want {
			t.Errorf("%s is at %d places, not %d", program, seen[program], want)
		}
	}
	// What begins a connection is attached after what reads it.
	groups := (&Taps{multi: true}).groups(points)
	for i, g := range groups {
		if i > 0 && begins(g[0]) < begins(groups[i-1][0]) {
			t.Errorf("%s is attached after %s", g[0].program, groups[i-1][0].program)
		}
	}
}
