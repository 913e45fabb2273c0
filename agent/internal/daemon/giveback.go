package daemon

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// giveBack gives back what only the start needed: the garbage of reading and relocating the kernel's programs, and the pages of
// the agent's own file that starting ran through, most of them for what every package sets up. The kernel maps a page
// of the file again when it is used; nothing is written or lost. What fails costs memory and nothing else.
func giveBack(log logrus.FieldLogger) {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		log.WithError(err).Debug("the pages of the agent's file are kept")
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		log.WithError(err).Debug("the pages of the agent's file are kept")
		return
	}
	for line := range strings.Lines(string(maps)) {
		begin, end, ok := ownPages(line, exe)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED); errno != 0 {
			log.WithError(errno).Debug("the pages of the agent's file are kept")
		}
	}
}

// ownPages is where a line of /proc/PID/maps (proc_pid_maps(5)) has pages of a file that nobody can write: only those are
// the same when they are read again.
func ownPages(line, file string) (begin, end uintptr, ok bool) {
	line = strings.TrimSuffix(line, "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || !strings.HasSuffix(line, " "+file) || !strings.HasPrefix(fields[1], "r-") || fields[1][3] != 'p' {
		return 0, 0, false
	}
	if n, err := fmt.Sscanf(fields[0], "%x-%x", &begin, &end); n != 2 || err != nil || begin >= end {
		return 0, 0, false
	}
	return begin, end, true
}
