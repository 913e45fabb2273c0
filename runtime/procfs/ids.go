package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// IDs are what a process acts under now, as the reader's user namespace counts them.
type IDs struct {
	User, Group [3]uint32 // the real, the saved and the effective one
	Groups      []uint32  // supplementary
}

// IDs reads the ids of a process's first thread. It returns ErrGone when the process ended meanwhile.
func (f FS) IDs(pid uint32) (IDs, error) {
	dir, err := os.OpenRoot(filepath.Join(f.dir, strconv.FormatUint(uint64(pid), 10)))
	if err != nil {
		return IDs{}, wrap(pid, err)
	}
	defer func() { _ = dir.Close() }() // read only
	text, err := readFile(dir, "status")
	if err != nil {
		return IDs{}, wrap(pid, err)
	}
	ids, err := parseIDs(string(text))
	if err != nil {
		return IDs{}, wrap(pid, err)
	}
	return ids, nil
}

// parseIDs reads the lines Uid, Gid and Groups of status. Name, the only text of the process in the file, has its newlines
// escaped.
func parseIDs(status string) (ids IDs, err error) {
	found := 0
	for line := range strings.Lines(status) {
		name, list, _ := strings.Cut(line, ":")
		switch name {
		case "Uid":
			ids.User, err = three(list)
		case "Gid":
			ids.Group, err = three(list)
		case "Groups":
			ids.Groups, err = idList(list)
		default:
			continue
		}
		if err != nil {
			return IDs{}, fmt.Errorf("parsing status: %s: %w", name, err)
		}
		found++
	}
	if found != len([]string{"Uid", "Gid", "Groups"}) {
		return IDs{}, errors.New("parsing status: Uid, Gid and Groups are not there once each")
	}
	return ids, nil
}

// three reads the real, effective, saved and file system's id.
func three(list string) (out [3]uint32, err error) {
	ids, err := idList(list)
	if err == nil && len(ids) != 4 {
		err = fmt.Errorf("%d ids, not 4", len(ids))
	}
	if err != nil {
		return out, err
	}
	return [3]uint32{ids[0], ids[2], ids[1]}, nil
}

func idList(list string) (out []uint32, err error) {
	for field := range strings.FieldsSeq(list) {
		id, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return nil, err
		}
		out = append(out, uint32(id))
	}
	return out, nil
}
