package daemon

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestOwnPages(t *testing.T) {
	for _, tt := range []struct {
		line       string
		begin, end uintptr
		ok         bool
	}{
		{"00400000-00401000 r-xp 00000000 fe:00 7    /bin/agent\n", 0x400000, 0x401000, true},
		{"00401000-00403000 r--p 00001000 fe:00 7    /bin/agent\n", 0x401000, 0x403000, true},
		{"00403000-00404000 rw-p 00003000 fe:00 7    /bin/agent\n", 0, 0, false},
		{"00404000-00405000 r--s 00003000 fe:00 7    /bin/agent\n", 0, 0, false},
		{"00400000-00401000 r-xp 00000000 fe:00 7    /usr/bin/agent (deleted)\n", 0, 0, false},
		{"7f0000000000-7f0000001000 r--p 00000000 00:00 0\n", 0, 0, false},
		{"00401000-00400000 r-xp 00000000 fe:00 7    /bin/agent\n", 0, 0, false},
		{"\n", 0, 0, false},
	} {
		begin, end, ok := ownPages(tt.line, "/bin/agent")
		if begin != tt.begin || end != tt.end || ok != tt.ok {
			t.Errorf("%q: %#x to %#x, %t", tt.line, begin, end, ok)
		}
	}
}

// TestGiveBack: a program that has given its pages back goes on.
func TestGiveBack(t *testing.T) {
	giveBack(logrus.New())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), self, "-test.list", "TestGiveBack").Output()
	if err != nil || !strings.HasPrefix(string(out), "TestGiveBack") {
		t.Errorf("after that it starts no process: %q, %v", out, err)
	}
}
