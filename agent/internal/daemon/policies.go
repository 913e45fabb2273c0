package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/policy"
)

// settle is how long the directory must be quiet before it is read: editors write in several steps.
const settle = 100 * time.Millisecond

// rewatch is how often a directory that is not there is looked for.
const rewatch = time.Second

// watchPolicies calls changed when the directory has become watched, and whenever something in it
// changes, until ctx ends. A directory that goes is waited for: what was in force stays.
func watchPolicies(ctx context.Context, dir string, changed func(), log logrus.FieldLogger) error {
	for told := false; ; {
		err := watchOnce(ctx, dir, func() {
			told = false
			changed()
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller asked to stop
		}
		if !told {
			log.WithError(err).Warn("policy directory cannot be watched; the policies in force stay")
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatch):
		}
	}
}

// watchOnce watches until the directory goes.
func watchOnce(ctx context.Context, dir string, changed func()) (err error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching policies: %w", err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watching policies: %w", err)
	}
	timer := time.NewTimer(settle) // for what changed while nobody watched
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			changed()
		case err := <-w.Errors:
			// Events may have been lost: read everything.
			timer.Reset(settle)
			if err != nil && !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watching policies: %w", err)
			}
		case e := <-w.Events:
			if filepath.Clean(e.Name) == filepath.Clean(dir) && e.Has(fsnotify.Remove|fsnotify.Rename) {
				return fmt.Errorf("watching policies: %s was removed", dir)
			}
			timer.Reset(settle)
		}
	}
}

// policyFile is one file of the directory: its last good policies, and what is wrong with it now.
type policyFile struct {
	policies []*policy.Policy
	err      error
}

// readPolicies reads the directory. A broken file keeps what it had before (fails closed: a typing
// error must not open what the last good version denied), and says what is wrong; a file that is gone
// takes its policies with it. Without the directory nothing changes.
func readPolicies(dir string, before map[string]policyFile) (map[string]policyFile, error) {
	files, err := policy.Load(os.DirFS(dir))
	if err != nil {
		return before, err
	}
	now := make(map[string]policyFile, len(files))
	for _, f := range files {
		if f.Err != nil {
			now[f.Name] = policyFile{policies: before[f.Name].policies, err: f.Err}
			continue
		}
		now[f.Name] = policyFile{policies: policy.Keep(before[f.Name].policies, f.Policies)}
	}
	return now, nil
}

// flatten lists the policies of all files; of two of the same name only one, so that a policy that
// moved to another file while its old one is broken is not there twice: that of the good file, else of
// the first.
func flatten(files map[string]policyFile) []*policy.Policy {
	var out []*policy.Policy
	taken := map[string]bool{}
	for _, broken := range []bool{false, true} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if f := files[name]; (f.err != nil) == broken {
				for _, p := range f.policies {
					if !taken[p.Name()] {
						taken[p.Name()] = true
						out = append(out, p)
					}
				}
			}
		}
	}
	return out
}
