package tls

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// http2 asks by curl, which speaks HTTP/2 where the server does: many requests and large bodies on one connection pass,
// and what is denied ends the connection before the server sees it.
func http2(t *testing.T, s *scene) {
	t.Helper()
	url := "https://" + s.server.String()
	curl := func(args ...string) (said string, code int) {
		t.Helper()
		c := s.box.Command(append([]string{"curl", "-sk", "--max-time", "20", "-w", "%{http_version}"}, args...)...)
		said = c.Run(t)
		return said, c.ProcessState.ExitCode()
	}
	const many = 60
	args, want := []string{}, ""
	for i := range many {
		args = append(args, "-H", "X-Number: "+strings.Repeat(fmt.Sprint(i), 40), fmt.Sprintf("%s/allowed/h2/%d?q=%d", url, i%7, i))
		want += "welcome2"
	}
	if said, code := curl(args...); code != 0 || said != want {
		t.Errorf("many requests: curl ends with %d and says %q", code, said)
	}
	body := strings.Repeat("a", 100_000)
	if said, code := curl("--data-binary", "@-", url+"/allowed/h2-body"); code != 0 || said != "welcome2" {
		t.Errorf("an empty body: curl ends with %d and says %q", code, said)
	}
	if said, code := curl("--data-binary", body, url+"/allowed/h2-large"); code != 0 || said != "welcome2" || !s.has(whole("/allowed/h2-large")) {
		t.Errorf("a large body: curl ends with %d and says %q", code, said)
	}
	for _, args := range [][]string{
		{url + "/denied/h2"},
		{"-X", "DELETE", url + "/allowed/h2-deletes"},
		{url + "/allowed/h2-first", url + "/denied/h2"},
		{"--data-binary", body, url + "/denied/h2"},
		{"--path-as-is", url + "/allowed/../denied/h2"},
		{"--path-as-is", url + "/allowed/%2e%2e/denied/h2"},
	} {
		if said, code := curl(args...); code == 0 {
			t.Errorf("%.60q: curl says %q", args, said)
		}
	}
	if s.has("/denied/h2") || s.has("/allowed/h2-deletes") || !s.has("/allowed/h2-first") {
		t.Errorf("the server has seen %q", s.seen)
	}
	e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Path == "/denied/h2" && e.Step == event.StepTap })
	if e.Kind != event.KindRequest || e.Method != http.MethodGet || e.Host != s.server.String() || e.Verdict != event.VerdictDeny ||
		e.Reason != event.ReasonRule || e.Remote != s.server || !strings.HasSuffix(e.Subject.Exe, "/curl") {
		t.Errorf("it is told as %+v", e)
	}
	why := []event.Reason{}
	for _, e := range s.events.Find(func(e event.Event) bool { return e.Flaw == event.FlawPath && e.Step == event.StepTap }) {
		why = append(why, e.Reason)
	}
	if !slices.Contains(why, event.ReasonAmbiguous) {
		t.Errorf("ways out of the path are told with the reasons %v", why)
	}
}
