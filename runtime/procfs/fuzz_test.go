package procfs

import "testing"

// FuzzParts feeds any bytes to the readers of one process: an error or values, never a panic.
func FuzzParts(f *testing.F) {
	f.Add([]byte("42 (a) b) S 41 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7788 1 2 3\n"))
	f.Add([]byte("Name:\tx\nNSpid:\t42\t7\n"))
	f.Add([]byte("3:cpu:/x\n0::/a\n"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Process
		if err := p.readStat(text); err == nil && p.State == 0 {
			t.Error("stat was read without a state")
		}
		if err := p.readStatus(text); err == nil && p.NSPID == nil {
			t.Error("status was read without numbers")
		}
		if err := p.readCgroup(text); err == nil && p.Cgroup[0] != '/' {
			t.Errorf("cgroup path %q is not absolute", p.Cgroup)
		}
	})
}
