package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func record(exe string) *alert.Record {
	return &alert.Record{
		Event:    event.Event{Kind: event.KindExec, Subject: event.Subject{PID: 7, Exe: exe, Origin: event.OriginExec}},
		Workload: "shop/checkout",
	}
}

func send(t *testing.T, s *Sink, r *alert.Record) {
	t.Helper()
	if err := s.Send(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// lines reads JSON lines and returns their binaries.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var binaries []string
	for line := range strings.Lines(string(text)) {
		var object struct{ Binary, Workload, Kind, Time string }
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			binaries = append(binaries, "broken: "+line)
			continue
		}
		if object.Workload != "shop/checkout" || object.Kind != "exec" || object.Time == "" {
			t.Errorf("line %q", line)
		}
		binaries = append(binaries, object.Binary)
	}
	return binaries
}

func TestStream(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s, err := New(Config{Stream: &out})
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, record("/bin/a\n{\"kind\":\"forged\"}\xff"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"binary":"/bin/a\\n{\"kind\":\"forged\"}\\xff"`) {
		t.Errorf("wrote %q", got)
	}
}

func TestFileModeAndReopening(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "alerts.jsonl")
	for _, exe := range []string{"/bin/a", "/bin/b"} {
		s, err := New(Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, record(exe))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %s", info.Mode())
		}
		if err := os.Chmod(path, 0o644); err != nil { // someone opened it up; the next start closes it
			t.Fatal(err)
		}
	}
	if got := strings.Join(lines(t, path), " "); got != "/bin/a /bin/b" {
		t.Errorf("lines %s", got)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "alerts.jsonl")
	s, err := New(Config{Path: path, MaxSizeMB: 1})
	if err != nil {
		t.Fatal(err)
	}
	const n = 1200 // of two kilobytes
	for range n {
		send(t, s, record("/"+strings.Repeat("x", 1000)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "alerts*.jsonl"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	total := 0
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes and mode %s", file, info.Size(), info.Mode())
		}
		total += len(lines(t, file))
	}
	if total != n {
		t.Errorf("%d lines in %d files, want %d", total, len(files), n)
	}
}

func TestBrokenLineDoesNotSpoilTheNext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alerts.jsonl")
	if err := os.WriteFile(path, []byte(`{"kind":"exec","wor`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, record("/bin/a"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 2 || got[1] != "/bin/a" {
		t.Errorf("lines %q", got)
	}
}

// full is a disk that is full after room bytes.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n, _ := f.Buffer.Write(p[:min(len(p), f.room)])
	f.room -= n
	if n < len(p) {
		return n, errors.New("no space left")
	}
	return n, nil
}

func TestFullDiskEndsTheBrokenLine(t *testing.T) {
	t.Parallel()
	disk := &full{room: 10}
	s, err := New(Config{Stream: disk})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Send(t.Context(), record("/bin/a")); err == nil {
			t.Fatal("no error")
		}
	}
	disk.room = 1 << 20
	send(t, s, record("/bin/a"))
	_, last, ok := strings.Cut(disk.String(), "\n")
	if !ok || !json.Valid([]byte(last)) {
		t.Errorf("disk holds %q", disk.String())
	}
}

func TestLineBeyondTheFileIsRejected(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Path: filepath.Join(t.TempDir(), "alerts.jsonl"), MaxSizeMB: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), record(strings.Repeat("x", 1<<20))); !errors.Is(err, alert.ErrRejected) {
		t.Errorf("error %v, want %v", err, alert.ErrRejected)
	}
	send(t, s, record("/bin/a"))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyRegularFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	link := filepath.Join(folder, "link")
	if err := os.Symlink(filepath.Join(folder, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, folder} {
		if _, err := New(Config{Path: path}); err == nil {
			t.Errorf("%s was taken", path)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "target")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("neither path nor stream: no error")
	}
}
