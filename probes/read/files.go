package read

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mapping is a file that a process has mapped to be executed.
type mapping struct {
	path string // as the process sees it; hostile text
	file string // where this very file can be opened, whatever is at path by now
}

// maxMappings bounds what is read of one process.
const maxMappings = 4096

// mappings lists the files whose code a process can execute, each once. proc is where processes are shown.
func mappings(proc string, pid uint32) ([]mapping, error) {
	dir := filepath.Join(proc, strconv.FormatUint(uint64(pid), 10))
	f, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return nil, fmt.Errorf("looking at the code of process %d: %w", pid, err)
	}
	defer f.Close() //nolint:errcheck // read only
	var out []mapping
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 0; lines.Scan() && n < maxMappings; n++ {
		span, path, ok := executable(lines.Text())
		if !ok || seen[path] {
			continue
		}
		seen[path] = true
		out = append(out, mapping{path, filepath.Join(dir, "map_files", span)})
	}
	if err := lines.Err(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking at the code of process %d: %w", pid, err)
	}
	return out, nil
}

// executable reads a line of /proc/PID/maps: span, rights, offset, device, inode, path. ok is false for what
// is not executed or no file.
func executable(line string) (span, path string, ok bool) {
	fields := strings.Fields(line)
	const pathField = 5
	if len(fields) <= pathField || !strings.Contains(fields[1], "x") || fields[4] == "0" {
		return "", "", false
	}
	at := strings.Index(line, fields[pathField])
	return spanName(fields[0]), line[at:], true
}

// spanName is how map_files calls a span of addresses of maps, which writes low ones, where programs lie that are
// linked to one place, with zeros in front.
func spanName(span string) string {
	begin, end, _ := strings.Cut(span, "-")
	return strings.TrimLeft(begin, "0") + "-" + strings.TrimLeft(end, "0")
}
