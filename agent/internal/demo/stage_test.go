package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the demo starts ends with it, the last first, and so does whoever waits for it.
func TestCleanEndsWhatWasStarted(t *testing.T) {
	t.Parallel()
	s := &show{out: io.Discard, dir: t.TempDir()}
	var order []string
	s.later(func() error { order = append(order, "first"); return nil })
	if err := s.start("sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	running, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	pids := ours(t, running)
	if len(pids) != 1 {
		t.Fatalf("%v run, want one", pids)
	}
	s.later(func() error { order = append(order, "last"); return nil })
	if err := s.clean(); err != nil {
		t.Error(err)
	}
	if strings.Join(order, " ") != "last first" {
		t.Errorf("undone in the order %v", order)
	}
	if _, err := os.Stat(filepath.Dir(pids[0])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the daemon %s is still there: %v", pids[0], err)
	}
	if err := s.start("there-is-no-such-daemon"); err == nil {
		t.Error("a program that is not there was started")
	}
}

// ours finds the sleeping daemon among processes by whose child it is.
func ours(t *testing.T, cmdlines []string) (found []string) {
	t.Helper()
	for _, file := range cmdlines {
		line, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(line), "sleep\x001000\x00") {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err == nil && strings.Contains(string(status), "\nPPid:\t"+strconv.Itoa(os.Getpid())+"\n") {
			found = append(found, file)
		}
	}
	return found
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	never := errors.New("never")
	err := wait(ctx, "what does not come", func() error { return never })
	if !errors.Is(err, never) || !strings.Contains(err.Error(), "what does not come") {
		t.Errorf("it ended with %v", err)
	}
	tries := 0
	err = wait(t.Context(), "the third try", func() error {
		if tries++; tries < 3 {
			return never
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("it ended with %v at try %d", err, tries)
	}
}
