package procfs_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/procfs"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	proc := fake(t, 42, map[string]string{"status": "Name:\tUid:\\n7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 4294967294 \n"})
	got, err := proc.IDs(42)
	want := procfs.IDs{User: [3]uint32{1, 3, 2}, Group: [3]uint32{5, 7, 6}, Groups: []uint32{9, 4294967294}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s", err, diff)
	}
	if _, err := proc.IDs(43); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("a process that is not there: %v, want ErrGone", err)
	}
	if own, err := procfs.New("/proc").IDs(uint32(os.Getpid())); err != nil || own.User[2] != uint32(os.Geteuid()) || own.Group[0] != uint32(os.Getgid()) {
		t.Errorf("of this process: %+v, %v", own, err)
	}
	for _, status := range []string{
		"", "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n", "Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\n", "Uid:\t-1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\n",
	} {
		if got, err := fake(t, 42, map[string]string{"status": status}).IDs(42); err == nil {
			t.Errorf("%q was read as %+v", status, got)
		}
	}
}
