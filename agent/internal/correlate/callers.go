package correlate

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/runtime/identity"
)

// maxCallers bounds the calls that wait for their sessions.
const maxCallers = 4096

// argsKept is how many bytes of a process's arguments the kernel tells, each with its NUL.
const argsKept = 256

// callers is the calls of a cluster's API whose sessions have not been heard of, oldest first.
type callers struct {
	skew    time.Duration
	waiting []identity.Caller
}

// Called takes in a call of a cluster's API into a pod.
func (g *Registry) Called(c identity.Caller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &g.callers.waiting
	if slices.ContainsFunc(*w, func(o identity.Caller) bool { return o.ID == c.ID }) {
		return
	}
	*w = append(*w, c)
	g.callers.forget(g.cfg.Now())
}

// forget drops the calls that no session can belong to any more.
func (c *callers) forget(now time.Time) {
	c.waiting = slices.DeleteFunc(c.waiting, func(o identity.Caller) bool { return now.Sub(o.Time) > 2*c.skew })
	if over := len(c.waiting) - maxCallers; over > 0 {
		c.waiting = slices.Delete(c.waiting, 0, over)
	}
}

// userOf names the user who asked for a session, "" if that is not known. Of several users who asked for the same at the
// same time nobody can tell which session is whose: it names them all.
func (c *callers) userOf(one *session, r *alert.Record) string {
	if one == nil || one.user != "" || one.inferred || len(one.args) == 0 || r.Pod == "" {
		if one == nil {
			return ""
		}
		return one.user
	}
	var users []string
	first := -1
	for i := range c.waiting {
		call := &c.waiting[i]
		in := call.Namespace == r.Namespace && call.Pod == r.Pod && (call.Container == "" || call.Container == r.Container)
		if !in || !sameArgs(one.args, call.Args) || one.start.Sub(call.Time).Abs() > c.skew {
			continue
		}
		if first < 0 {
			first = i
		}
		users = append(users, call.User)
	}
	if first < 0 {
		return ""
	}
	c.waiting = slices.Delete(c.waiting, first, first+1)
	slices.Sort(users)
	one.user = strings.Join(slices.Compact(users), " or ")
	return one.user
}

// sameArgs says whether the arguments that the kernel told, which are cut, are those of a call.
func sameArgs(told, called []string) bool {
	if slices.Equal(told, called) {
		return true
	}
	told1, called1 := strings.Join(told, "\x00"), strings.Join(called, "\x00")
	return len(called1)+1 > argsKept && len(told1)+1 >= argsKept-1 && strings.HasPrefix(called1, told1)
}
