package cgroup_test

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/cgroup"
)

// TestUnits is which cgroups are workloads of the node, by which selectors.
func TestUnits(t *testing.T) {
	t.Parallel()
	h := tree(t, "/init.scope", "/system.slice/ssh.service", "/system.slice/web.service/worker", "/system.slice/agent.service/inner",
		"/system.slice/system-getty.slice/getty@tty1.service", "/user.slice/user-7.slice/user@7.service/app.slice/foo.service",
		"/user.slice/user-7.slice/session-3.scope", "/kubepods.slice/pod1/"+hex+"/init.scope", "/default/demo.service", "/plain/own")
	for _, tc := range []struct {
		name    string
		selects []string // patterns of path.Match on the whole path, one a selector
		want    string
	}{
		{"none", nil, ""},
		{"one unit", []string{"/system.slice/ssh.service"}, "/system.slice/ssh.service"},
		{"no agent", []string{"/system.slice/agent.service", "/system.slice/agent.service/inner"}, ""},
		{"what a unit makes inside is the unit's", []string{"/system.slice/web*"}, "/system.slice/web.service"},
		{"unless another selector tells it apart", []string{"/system.slice/web*", "/system.slice/*/worker"}, "/system.slice/web.service /system.slice/web.service/worker"},
		{
			"every service of a slice has its name, but for the slice of the agent",
			[]string{"/system.slice"},
			"/system.slice/ssh.service /system.slice/system-getty.slice/getty@tty1.service /system.slice/web.service",
		},
		{"a slice", []string{"/user.slice"}, "/user.slice /user.slice/user-7.slice/session-3.scope /user.slice/user-7.slice/user@7.service"},
		{"a user's unit", []string{"/user.slice/*/*/*/foo.service"}, "/user.slice/user-7.slice/user@7.service/app.slice/foo.service"},
		{"no container", []string{"/kubepods.slice", "/kubepods.slice/*/*", "/kubepods.slice/*/*/*", "/default/*"}, "/kubepods.slice"},
		{"any cgroup", []string{"/plain/own"}, "/plain/own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q := cgroup.UnitQuery{
				Selects: func(p string) (selectors []int) {
					for i, pattern := range tc.selects {
						if ok, err := path.Match(pattern, p); err != nil {
							t.Error(err)
						} else if ok {
							selectors = append(selectors, i)
						}
					}
					return selectors
				},
				Unit: func(p string) string {
					if strings.Contains(path.Base(p), ".") {
						return path.Base(p)
					}
					return ""
				},
				Except: "/system.slice/agent.service", Parents: []string{"/default"},
			}
			found, err := h.Units(q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range found {
				got = append(got, c.Path)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
