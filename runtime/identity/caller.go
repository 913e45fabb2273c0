package identity

import "time"

// Caller is who asked a cluster's API for an exec. It is for the report only, and joined to the kernel's session by pod,
// container, arguments and time.
type Caller struct {
	ID        string // of the call, unique
	Time      time.Time
	User      string // as the API has authenticated it
	Namespace string
	Pod       string
	Container string // "": the pod's first
	Args      []string
}
