package program

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const envNext = "SALLYPORT_NEXT" // an agent of another version that was built before

// Where programs are loaded, and what the next version does to them there.
const (
	loader  = "probes/internal/bpfobj/maps.go"
	copied  = "\tspec = wanted.Copy()\n"
	changed = copied + "\tnextVersion(spec)\n"
)

//go:embed next.go.txt
var nextVersion string

var compiledNext = sync.OnceValues(compileNext)

// Next returns the path of an agent of another version, whose maps are those of Binary and whose kernel programs all differ by
// an instruction that does nothing; SALLYPORT_NEXT names one that was built before.
func Next(t testing.TB) string {
	t.Helper()
	return ready(t, envNext, compiledNext)
}

// compileNext lays the change over the sources, which stay as they are.
func compileNext() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the sources: %w", err)
	}
	root := strings.TrimSpace(string(out))
	source, err := os.ReadFile(filepath.Join(root, loader))
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(source), copied, changed, 1)
	if text == string(source) {
		return "", fmt.Errorf("%s does not say %q any more", loader, copied)
	}
	dir := os.Getenv(envStage)
	over := map[string]string{}
	for name, text := range map[string]string{filepath.Base(loader): text, "next.go": nextVersion} {
		over[filepath.Join(root, filepath.Dir(loader), name)] = filepath.Join(dir, "next-"+name)
		if err := os.WriteFile(filepath.Join(dir, "next-"+name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": over})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	return compile("sallyport-next", "agent", "-overlay", file)
}
