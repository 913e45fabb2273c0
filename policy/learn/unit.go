package learn

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// unit selects the units that one policy is about. Who may make units of its own (a user's service manager) chooses their
// names, so that the path of the cgroup stands beside the name.
type unit struct {
	name   string // pattern; "" without one
	cgroup string // pattern
}

// numbered are the names that systemd makes of numbers, and what they have in common: of sessions, and of what systemd-run
// starts.
var numbered = []struct {
	name    *regexp.Regexp
	pattern string
}{
	{regexp.MustCompile(`^session-c?[0-9]+\.scope$`), "session-*.scope"},
	{regexp.MustCompile(`^run-(?:u[0-9]+|r[0-9a-f]{32}|p[0-9]+-i[0-9]+)\.scope$`), "run-*.scope"},
	{regexp.MustCompile(`^run-(?:u[0-9]+|r[0-9a-f]{32}|p[0-9]+-i[0-9]+)\.service$`), "run-*.service"},
}

// unitOf is what selects a unit, and the units that differ from it by a number only. The path is empty where no
// policy can name it.
func unitOf(h *policy.HostUnit) unit {
	if !strings.HasPrefix(h.Cgroup, "/") || h.Unit != policy.UnitOf(h.Cgroup) {
		return unit{}
	}
	u := unit{literal(h.Unit), literal(h.Cgroup)}
	if h.Unit != "" && u.name == "" || u.cgroup == "" {
		return unit{}
	}
	for i := range numbered {
		if base := path.Base(h.Cgroup); numbered[i].name.MatchString(base) {
			u = unit{numbered[i].pattern, strings.TrimSuffix(u.cgroup, base) + numbered[i].pattern}
		}
	}
	return u
}

// selector writes the field that selects the unit.
func (u unit) selector() string {
	if u.name == "" {
		return fmt.Sprintf("hostSelector: {cgroups: [%s]}", quoted(u.cgroup))
	}
	return fmt.Sprintf("hostSelector: {units: [%s], cgroups: [%s]}", quoted(u.name), quoted(u.cgroup))
}
