package kube

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/fakeapi"
)

// TestAnAPIThatTalksNonsense: whatever is said instead of an answer, what was known stays known, and what happened meanwhile
// is learned from the first answer that is one.
func TestAnAPIThatTalksNonsense(t *testing.T) {
	t.Parallel()
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) } // whoever went does not read it
	}
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"nothing", says("")},
		{"an empty object", says("{}")},
		{"null", says("null")},
		{"another kind", says(`{"apiVersion":"v1","kind":"Status","status":"Success"}`)},
		{"half a list", says(`{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x`)},
		{"a page for people", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>maintenance</html>")
		}},
		{"an error without a reason", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"too many requests", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }},
		{"noise", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, rand.Reader, 64<<10) }},
		{"a deep document", says(strings.Repeat(`{"items":[`, 100_000))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			api := fakeapi.New(t)
			api.Put(t, pods, pod("a", "10.0.0.1", ""))
			s := start(t, api, func(*Source) {})
			eventually(t, s, "a pod", func(s Snapshot) bool { return len(s.Pods) == 1 })
			asked := make(chan struct{}, 1000)
			api.Instead(func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == pods {
					select {
					case asked <- struct{}{}:
					default: // often enough
					}
				}
				tc.answer(w, q)
			})
			api.Put(t, pods, pod("b", "10.0.0.2", ""))
			for range 3 { // whatever it makes of an answer, it asks again
				<-asked
			}
			if now := s.Snapshot(); len(now.Pods) != 1 || !now.Synced {
				t.Errorf("known is %+v", now)
			}
			api.Instead(nil)
			eventually(t, s, "what happened meanwhile", func(now Snapshot) bool { return len(now.Pods) == 2 })
		})
	}
}

// TestAnAPIThatHangs: that requests get no answer is noticed, and what is known stays known.
func TestAnAPIThatHangs(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, pod("a", "10.0.0.1", ""))
	s := startWith(t, api, Config{AnswerTimeout: time.Second}, func(*Source) {})
	eventually(t, s, "a pod", func(s Snapshot) bool { return len(s.Pods) == 1 })
	resume := make(chan struct{})
	api.Instead(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-resume:
		case <-q.Context().Done():
		}
	})
	api.Put(t, pods, pod("b", "10.0.0.2", ""))
	testutil.Eventually(t, "the API is away", func() error {
		if h := s.Health(); !h.Away {
			return fmt.Errorf("it is %+v", h)
		}
		return nil
	})
	if now := s.Snapshot(); len(now.Pods) != 1 || !now.Synced {
		t.Errorf("known is %+v", now)
	}
	close(resume)
	api.Instead(nil)
	eventually(t, s, "what happened meanwhile", func(now Snapshot) bool { return len(now.Pods) == 2 })
}
