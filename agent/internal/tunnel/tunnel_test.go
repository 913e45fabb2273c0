package tunnel

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
)

func watcher() *Watcher {
	return New(Config{Names: 100, Entropy: 3, Window: 10 * time.Minute, Except: []string{"cluster.local"}})
}

var start = time.Unix(1_700_000_000, 0)

// asked is an answer to a query of a container.
func asked(container uint64, name string, at time.Duration) *event.Event {
	return &event.Event{Time: start.Add(at), Kind: event.KindDNS, Subject: event.Subject{Container: container}, Query: name, Answer: true}
}

// data is what a tunnel sends in one name.
func data(r *rand.ChaCha8, bytes int) string {
	b := make([]byte, bytes)
	_, _ = r.Read(b) // never fails
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

func TestTunnelIsToldOnce(t *testing.T) {
	t.Parallel()
	w, r := watcher(), rand.NewChaCha8([32]byte{})
	told := 0
	for i := range 1000 {
		e, ok := w.Observe(asked(7, data(r, 20)+"."+data(r, 20)+".t.evil.co.uk", time.Duration(i)*time.Millisecond))
		if !ok {
			continue
		}
		told++
		if i < 99 || i > 130 {
			t.Errorf("it is told at name %d", i)
		}
		if e.Kind != event.KindTunnel || e.Query != "evil.co.uk" || e.Told != 100 || e.Subject.Container != 7 {
			t.Errorf("it is told as %+v", e)
		}
	}
	if told != 1 {
		t.Errorf("it is told %d times in a window", told)
	}
	for range 1000 {
		if _, ok := w.Observe(asked(7, data(r, 20)+".evil.co.uk", time.Hour)); ok {
			told++
		}
	}
	if told != 2 {
		t.Errorf("it is told %d times in two windows", told)
	}
}

func TestWhatIsNoTunnel(t *testing.T) {
	t.Parallel()
	r := rand.NewChaCha8([32]byte{1})
	for what, name := range map[string]func(i int) string{
		"few names again and again": func(i int) string { return data(rand.NewChaCha8([32]byte{byte(i % 50)}), 20) + ".cdn.example" },
		"names that people give":    func(i int) string { return fmt.Sprintf("web-%d.shop.example", i) },
		"services of the cluster":   func(int) string { return data(r, 20) + ".shop.svc.cluster.local" },
		"many domains, one name of each": func(i int) string {
			return "www." + hex.EncodeToString([]byte{byte(i), byte(i >> 8), 7, 9, 11}) + ".example"
		},
		"the domain itself":               func(int) string { return "evil.example" },
		"a public suffix, and no domain":  func(int) string { return "co.uk" },
		"what cannot be read, or nothing": func(int) string { return "" },
	} {
		t.Run(what, func(t *testing.T) {
			w := watcher()
			for i := range 5000 {
				if e, ok := w.Observe(asked(7, name(i), time.Duration(i)*time.Millisecond)); ok {
					t.Fatalf("told at %d: %+v", i, e)
				}
			}
		})
	}
}

// TestSlowTunnel: what stays below the number of names in each window is not told.
func TestSlowTunnel(t *testing.T) {
	t.Parallel()
	w, r := watcher(), rand.NewChaCha8([32]byte{2})
	for i := range 1000 {
		if _, ok := w.Observe(asked(7, data(r, 20)+".evil.example", time.Duration(i)*10*time.Second)); ok {
			t.Fatal("told")
		}
	}
}

// TestContainersAreApart: what one asks for is not counted for another, and a tunnel is found between many other domains.
func TestContainersAreApart(t *testing.T) {
	t.Parallel()
	w, r := watcher(), rand.NewChaCha8([32]byte{3})
	for i := range 9000 {
		if _, ok := w.Observe(asked(uint64(i%100+1), data(r, 20)+".evil.example", 0)); ok {
			t.Fatal("told of containers each of which has asked for too few")
		}
	}
	told := false
	for i := range 4000 {
		w.Observe(asked(200, fmt.Sprintf("www.d%d.example", i), 0))
		_, ok := w.Observe(asked(200, data(r, 20)+".evil.example", 0))
		told = told || ok
	}
	if !told {
		t.Error("the tunnel is not found")
	}
}

// TestMemoryIsBounded: however many containers and domains there are.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	w := watcher()
	for i := range 3 * containers {
		for d := range domains + 5 {
			w.Observe(asked(uint64(i+1), fmt.Sprintf("a.d%d.example", d), 0))
		}
	}
	if len(w.byContainer) != containers {
		t.Errorf("%d containers are kept", len(w.byContainer))
	}
	for c, all := range w.byContainer {
		if len(all) > domains {
			t.Fatalf("%d domains of container %d are kept", len(all), c)
		}
	}
	w.Observe(&event.Event{Kind: event.KindCgroup, Removed: true, Subject: event.Subject{Container: 1}})
	if _, ok := w.byContainer[1]; ok {
		t.Error("a container that is gone is kept")
	}
}

func TestNothingIsLookedFor(t *testing.T) {
	t.Parallel()
	w, r := New(Config{Window: time.Hour}), rand.NewChaCha8([32]byte{4})
	for range 1000 {
		if _, ok := w.Observe(asked(7, data(r, 20)+".evil.example", 0)); ok {
			t.Fatal("told")
		}
	}
}
