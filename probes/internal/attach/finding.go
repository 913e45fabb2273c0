package attach

import "errors"

// Thing is what somebody can take away or change.
type Thing uint8

// The things.
const (
	ThingLink     Thing = iota // a program does not run at its hook any more, or another one does
	ThingPin                   // the pin of a link or a map is not there any more, or is another object's
	ThingControls              // the map of the revision in force and of the switches was written by somebody else
	ThingFilter                // a program of clsact is not at its interface any more, or another one is
	ThingBPFFS                 // the BPF file system is not mounted any more
	ThingSetting               // a setting of the kernel without which programs are not called
)

// String is a word for reports and metrics.
func (t Thing) String() string {
	switch t {
	case ThingLink:
		return "link"
	case ThingPin:
		return "pin"
	case ThingControls:
		return "controls"
	case ThingFilter:
		return "filter"
	case ThingBPFFS:
		return "bpffs"
	case ThingSetting:
		return "setting"
	}
	return "unknown"
}

// Finding is one thing that was found taken away or changed.
type Finding struct {
	Thing Thing
	Name  string // of the link or map, or of the program and the interface
	Err   error  // why it could not be put back; nil: it is back
}

// errGone means that what a program was attached to is gone, and with it the program: nobody's doing.
var errGone = errors.New("what it was attached to is gone")
