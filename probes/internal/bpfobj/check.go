package bpfobj

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sallyport/sallyport/probes/internal/attach"
)

// seal notes by what the pins of the maps are recognised.
func (m *Maps) seal(dir string) error {
	m.dir, m.look = dir, attach.NewDir(dir)
	m.seals = map[string]*attach.Seal{}
	for name := range m.byName {
		seal, err := attach.SealOf(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		m.seals[name] = &seal
	}
	return nil
}

// Check finds the pins of maps that somebody has removed or replaced, and a control entry that somebody else has written,
// and puts them back. What else is in maps is not looked at. It is for one goroutine.
func (m *Maps) Check() []attach.Finding {
	var found []attach.Finding
	if broken, err := m.restoreControl(); broken {
		found = append(found, attach.Finding{Thing: attach.ThingControls, Name: "controls", Err: err})
	}
	if !m.look.Changed() {
		return found
	}
	_ = os.MkdirAll(m.dir, 0o700) // what fails here fails again at each pin
	for _, name := range slices.Sorted(maps.Keys(m.seals)) {
		if broken, err := m.seals[name].Restore(filepath.Join(m.dir, name), m.byName[name]); broken {
			found = append(found, attach.Finding{Thing: attach.ThingPin, Name: name, Err: err})
			if err != nil {
				m.look = attach.NewDir(m.dir) // to be tried again
			}
		}
	}
	return found
}

// restoreControl writes the control entry as it was written last, if it is another. A revision of 0 there would mean that
// nothing is governed.
func (m *Maps) restoreControl() (broken bool, err error) {
	m.control.Lock()
	defer m.control.Unlock()
	now, err := m.Control()
	if err != nil {
		return true, err
	}
	if m.written == nil || now == *m.written {
		return false, nil
	}
	return true, m.putControl(m.written)
}

// putControl writes the control entry. It is called with the lock held.
func (m *Maps) putControl(c *ABIControl) error {
	if err := m.Map("controls").Put(uint32(0), c); err != nil {
		return fmt.Errorf("writing control map: %w", err)
	}
	return nil
}
