package loadgate

import (
	_ "embed"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stats.md is made by `make bpf-stats`.
//
//go:embed stats.md
var stats string

// verifiedInstructions is what the verifiers of kernels looked at, by program ("object/program") and kernel ("6.1"). The kernel gives
// up at a million, and a program that grows without anybody's noticing does not load on the kernel that looks closest.
type verifiedInstructions map[string]map[string]uint32

// committed reads the table.
func committed(t *testing.T) verifiedInstructions {
	t.Helper()
	out := verifiedInstructions{}
	var kernels []string
	for line := range strings.Lines(stats) {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(strings.TrimSpace(line), " ", ""), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(cells[0], "---"):
		case kernels == nil:
			kernels = cells
		default:
			out[cells[0]] = map[string]uint32{}
			for i := 1; i < len(cells); i++ {
				if n, err := strconv.ParseUint(cells[i], 10, 32); err == nil { // "–": it does not load there
					out[cells[0]][kernels[i]] = uint32(n)
				}
			}
		}
	}
	return out
}

// compare prints what make bpf-stats reads, and fails where a program is looked at for more than a tenth longer than the table says, or
// is not in it. Another version of a kernel of the table may differ a little, and a kernel that is not in it is compared with nothing.
func (v verifiedInstructions) compare(t *testing.T, program, kernel string, insns uint32) {
	t.Helper()
	t.Logf("verified\t%s\t%s\t%d", program, kernel, insns)
	if before, ok := v[program][kernel]; ok && insns > before+before/10 {
		t.Errorf("the verifier looks at %d instructions, %d before: say in the commit why, and run make bpf-stats", insns, before)
	} else if v[program] == nil {
		t.Errorf("the program is not in stats.md: run make bpf-stats")
	}
}

// kernelVersion returns the running kernel's version, "6.1".
func kernelVersion(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}
