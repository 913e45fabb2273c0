package kube

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// table keeps what a reflector tells of one resource, trimmed, in the order of its keys. It is the reflector's store:
// objects are trimmed one by one as they come, so that a long list is never in memory whole.
type table[V any] struct {
	trim    func(obj any) (V, error)
	changed func()

	mu     sync.Mutex
	items  []*item[V] // ascending by key
	shown  []V        // what list returned last
	stale  bool       // shown is not what items say
	synced bool       // a whole list was taken in
}

// item is one trimmed object. The reflector carries it as an object.
type item[V any] struct {
	key   string // namespace/name, or name
	value V
}

// GetObjectKind implements runtime.Object.
func (*item[V]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. An item is never changed, so that it is its own copy.
func (i *item[V]) DeepCopyObject() runtime.Object { return i }

func newTable[V any](trim func(obj any) (V, error), changed func()) *table[V] {
	return &table[V]{trim: trim, changed: changed}
}

// list returns the values in the order of their keys, and whether a whole list was ever taken in. The slice is another
// one only after something changed.
func (t *table[V]) list() (values []V, synced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stale {
		t.shown, t.stale = make([]V, len(t.items)), false
		for i, it := range t.items {
			t.shown[i] = it.value
		}
	}
	return t.shown, t.synced
}

// empty says whether there is nothing in the table.
func (t *table[V]) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.items) == 0
}

// Transformer implements cache.TransformingStore.
func (t *table[V]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return t.item(obj) }
}

// item trims an object, unless it is trimmed. One that is known and has not changed is what is known: a new list of
// everything takes no second room.
func (t *table[V]) item(obj any) (*item[V], error) {
	if it, ok := obj.(*item[V]); ok {
		return it, nil
	}
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	value, err := t.trim(obj)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.find(key); ok && reflect.DeepEqual(t.items[at].value, value) {
		return t.items[at], nil
	}
	return &item[V]{strings.Clone(key), value}, nil
}

// find returns where a key is, or would be.
func (t *table[V]) find(key string) (at int, ok bool) {
	return slices.BinarySearchFunc(t.items, key, func(it *item[V], key string) int { return cmp.Compare(it.key, key) })
}

// Add implements cache.ReflectorStore.
func (t *table[V]) Add(obj any) error { return t.Update(obj) }

// Update implements cache.ReflectorStore.
func (t *table[V]) Update(obj any) error {
	it, err := t.item(obj)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.find(it.key)
	switch {
	case !ok:
		t.items = slices.Insert(t.items, at, it)
	case t.items[at].same(it):
		return nil // what changed is nothing that is kept
	default:
		t.items[at] = it
	}
	t.touch()
	return nil
}

// Delete implements cache.ReflectorStore.
func (t *table[V]) Delete(obj any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return fmt.Errorf("reading a deleted object: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.find(key); ok {
		t.items = slices.Delete(t.items, at, at+1)
		t.touch()
	}
	return nil
}

// same says whether two items of one key say the same.
func (i *item[V]) same(as *item[V]) bool { return i == as || reflect.DeepEqual(i.value, as.value) }

// Replace implements cache.ReflectorStore. A list that says what is known changes nothing; it is told all the same, since
// to read it took memory that somebody may give back.
func (t *table[V]) Replace(objects []any, _ string) error {
	items := make([]*item[V], len(objects))
	for i, obj := range objects {
		it, err := t.item(obj)
		if err != nil {
			return err
		}
		items[i] = it
	}
	slices.SortFunc(items, func(a, b *item[V]) int { return cmp.Compare(a.key, b.key) })
	t.mu.Lock()
	defer t.mu.Unlock()
	first := !t.synced
	t.synced = true
	same := slices.EqualFunc(t.items, items, func(a, b *item[V]) bool { return a.key == b.key && a.same(b) })
	if !same {
		t.items = items
	}
	if first || !same {
		t.stale = true
	}
	t.changed()
	return nil
}

// Resync implements cache.ReflectorStore.
func (*table[V]) Resync() error { return nil }

// touch notes a change. The caller holds mu.
func (t *table[V]) touch() {
	t.stale = true
	t.changed()
}
