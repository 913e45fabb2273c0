// Package fakeapi is a Kubernetes API server as far as lists and watches go, for tests that need one that is very large,
// or goes away, or forgets what it was. It knows no rules: it keeps JSON by resource and name.
package fakeapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Server is a server. Its methods are for use by several goroutines.
type Server struct {
	http *httptest.Server

	mu        sync.Mutex
	resources map[string]*resource // by path: /api/v1/pods
	revision  int
	away      bool
	instead   http.HandlerFunc // nil: the server answers
	noStream  bool
	lists     map[string]int // requests, by path
	watches   map[string]int
}

// resource is the objects of one resource.
type resource struct {
	kind, version string
	objects       map[string]json.RawMessage // by namespace/name
	events        []event                    // since compacted
	compacted     int                        // the revision before which nothing is remembered
	changed       chan struct{}              // closed at the next event
}

type event struct {
	revision int
	Type     string          `json:"type"`
	Object   json.RawMessage `json:"object"`
}

// New starts a server with the resources that an agent follows, all empty.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{resources: map[string]*resource{}, revision: 1, lists: map[string]int{}, watches: map[string]int{}}
	for path, kind := range map[string]string{
		"/api/v1/pods": "Pod", "/api/v1/namespaces": "Namespace", "/api/v1/services": "Service", "/api/v1/nodes": "Node",
		"/apis/discovery.k8s.io/v1/endpointslices": "EndpointSlice", "/apis/networking.k8s.io/v1/networkpolicies": "NetworkPolicy",
	} {
		s.Serve(path, kind)
	}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// URL is where the server is.
func (s *Server) URL() string { return s.http.URL }

// Kubeconfig is a file by which the server is found.
func (s *Server) Kubeconfig() string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":%q}}]}`, s.http.URL)
}

// Serve adds a resource: /apis/GROUP/VERSION/PLURAL.
func (s *Server) Serve(path, kind string) {
	version := strings.TrimPrefix(strings.TrimPrefix(path[:strings.LastIndexByte(path, '/')], "/apis/"), "/api/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources[path] = &resource{kind: kind, version: version, objects: map[string]json.RawMessage{}, changed: make(chan struct{})}
}

// Unserve takes a resource away, and breaks every connection.
func (s *Server) Unserve(path string) {
	s.mu.Lock()
	delete(s.resources, path)
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// Put makes or changes an object, which has no resourceVersion.
func (s *Server) Put(t testing.TB, path, object string) {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(object), &o); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	r := s.resources[path]
	o["apiVersion"], o["kind"] = r.version, r.kind
	metadata, ok := o["metadata"].(map[string]any)
	if !ok {
		t.Fatal("the object has no metadata")
	}
	metadata["resourceVersion"] = strconv.Itoa(s.revision)
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprint(metadata["namespace"], "/", metadata["name"])
	what := "MODIFIED"
	if r.objects[key] == nil {
		what = "ADDED"
	}
	r.objects[key] = text
	r.happened(event{s.revision, what, text})
}

// Fill makes objects of JSON texts that have a resourceVersion of "1", before anybody watches.
func (s *Server) Fill(path string, count int, object func(i int) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range count {
		s.resources[path].objects[fmt.Sprintf("%09d", i)] = json.RawMessage(object(i))
	}
}

// Delete removes an object by namespace/name.
func (s *Server) Delete(t testing.TB, path, key string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resources[path]
	text := r.objects[key]
	if text == nil {
		t.Fatalf("there is no %s to delete", key)
	}
	s.revision++
	delete(r.objects, key)
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	if metadata, ok := o["metadata"].(map[string]any); ok {
		metadata["resourceVersion"] = strconv.Itoa(s.revision)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r.happened(event{s.revision, "DELETED", text})
}

// happened remembers an event and wakes who watches.
func (r *resource) happened(e event) {
	r.events = append(r.events, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Away makes the server break every connection, or answer again.
func (s *Server) Away(away bool) {
	s.mu.Lock()
	s.away = away
	s.mu.Unlock()
	if away {
		s.http.CloseClientConnections()
	}
}

// Instead lets somebody else answer, on connections that are new; nil: the server does again.
func (s *Server) Instead(answer http.HandlerFunc) {
	s.mu.Lock()
	s.instead = answer
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// Compact makes the server forget what happened until now.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		r.events, r.compacted = nil, s.revision
	}
}

// NoStream makes the server one that cannot stream a list.
func (s *Server) NoStream() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noStream = true
}

// Asked returns how many lists, streamed ones included, and watches there have been of a resource.
func (s *Server) Asked(path string) (lists, watches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists[path], s.watches[path]
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	away, instead, r := s.away, s.instead, s.resources[q.URL.Path]
	s.mu.Unlock()
	if away {
		panic(http.ErrAbortHandler) // breaks the connection
	}
	w.Header().Set("Content-Type", "application/json")
	if instead != nil {
		instead(w, q)
		return
	}
	query := q.URL.Query()
	switch {
	case r == nil:
		refuse(w, http.StatusNotFound, "NotFound")
	case query.Get("watch") == "":
		s.list(w, q, r)
	default:
		s.watch(w, q, r)
	}
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","code":%d,"reason":%q,"message":"no"}`, code, reason)
}

// list answers with a page of a list.
func (s *Server) list(w http.ResponseWriter, q *http.Request, r *resource) {
	query := q.URL.Query()
	s.mu.Lock()
	s.lists[q.URL.Path]++
	keys := slices.Sorted(maps.Keys(r.objects))
	keys = slices.DeleteFunc(keys, func(key string) bool { return key <= query.Get("continue") })
	next := ""
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil && limit > 0 && limit < len(keys) {
		keys = keys[:limit]
		next = keys[limit-1]
	}
	objects := make([]json.RawMessage, len(keys))
	for i, key := range keys {
		objects[i] = r.objects[key]
	}
	version := strconv.Itoa(s.revision)
	if exact := query.Get("resourceVersion"); exact != "" && exact != "0" && query.Get("limit") != "" && query.Get("resourceVersionMatch") == "" {
		version = exact // and not what has happened since
	}
	list := map[string]any{
		"apiVersion": r.version, "kind": r.kind + "List", "items": objects,
		"metadata": map[string]any{"resourceVersion": version, "continue": next},
	}
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(list) // whoever went does not read it
}

// watch sends events until the caller goes.
func (s *Server) watch(w http.ResponseWriter, q *http.Request, r *resource) {
	query := q.URL.Query()
	from, _ := strconv.Atoi(query.Get("resourceVersion")) // 0: from now
	flusher, ok := w.(http.Flusher)
	if !ok {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	encoder := json.NewEncoder(w)
	s.mu.Lock()
	stream := query.Get("sendInitialEvents") == "true"
	if stream && s.noStream {
		s.mu.Unlock()
		refuse(w, http.StatusUnprocessableEntity, "Invalid")
		return
	}
	var first []json.RawMessage
	if stream {
		s.lists[q.URL.Path]++
		from, first = s.revision, slices.Collect(maps.Values(r.objects))
	} else {
		s.watches[q.URL.Path]++
	}
	s.mu.Unlock()
	for _, object := range first {
		_ = encoder.Encode(event{0, "ADDED", object}) // whoever went does not read it
	}
	if stream {
		_ = encoder.Encode(event{0, "BOOKMARK", json.RawMessage(fmt.Sprintf(
			`{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{"k8s.io/initial-events-end":"true"}}}`, r.version, r.kind, from))})
	}
	flusher.Flush()
	for {
		s.mu.Lock()
		away, forgotten, changed := s.away, from < r.compacted, r.changed
		news := slices.Clone(r.events)
		s.mu.Unlock()
		if away {
			return
		}
		if forgotten {
			_ = encoder.Encode(event{0, "ERROR", json.RawMessage(`{"apiVersion":"v1","kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}`)})
			return
		}
		for _, e := range news {
			if e.revision > from {
				from = e.revision
				_ = encoder.Encode(e)
			}
		}
		flusher.Flush()
		select {
		case <-q.Context().Done():
			return
		case <-changed:
		}
	}
}
