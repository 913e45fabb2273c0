package parse

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// program is a parser compiled for the host, as a process that answers each line with one.
type program struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// start compiles a source of this folder with the sanitizers and starts it. Without a C compiler t is skipped, or fails as
// testutil.Unsupported says.
func start(t testing.TB, source string) *program {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		testutil.Unsupported(t, "cc", err.Error())
	}
	path := filepath.Join(t.TempDir(), strings.TrimSuffix(source, ".c"))
	build := exec.CommandContext(t.Context(), "cc", "-O1", "-g", "-std=gnu11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-Wall", "-Wextra", "-Wno-unused-parameter", "-I../../bpf/include", "-o", path, source)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compiling the parser: %v\n%s", err, out)
	}
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal("starting the parser: ", err)
	}
	t.Cleanup(func() {
		_ = in.Close() // what tells it to end
		if err := cmd.Wait(); err != nil {
			t.Error("the parser, or a sanitizer in it, ended badly: ", err)
		}
	})
	return &program{in, bufio.NewReaderSize(out, 1<<20)}
}

// ask gives the program a line and returns the line it answers with.
func (p *program) ask(t testing.TB, line string) string {
	t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		t.Fatalf("giving the parser %s: %v", line, err)
	}
	answer, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("reading what the parser says of %s: %v", line, err)
	}
	return strings.TrimSuffix(answer, "\n")
}
