package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// defaultAnswerTimeout is what the API allows itself for a request that is no watch.
const defaultAnswerTimeout = time.Minute

// errNoAnswer is why a request ends that nobody answers.
var errNoAnswer = errors.New("the API does not answer")

// patience ends requests whose answer does not begin in time: an API that takes requests and answers none would else pass
// for one where nothing happens. How long an answer then goes on, as a watch does, is not bounded.
type patience struct {
	next http.RoundTripper
	wait time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p patience) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(q.Context())
	late := time.AfterFunc(p.wait, func() { cancel(errNoAnswer) })
	answer, err := p.next.RoundTrip(q.WithContext(ctx))
	if !late.Stop() && q.Context().Err() == nil {
		err = errors.Join(err, errNoAnswer)
	}
	if err != nil {
		cancel(nil)
		if answer != nil {
			_ = answer.Body.Close() // nobody reads it
		}
		return nil, err
	}
	answer.Body = body{answer.Body, cancel}
	return answer, nil
}

// CloseIdleConnections passes on what http.Client asks for.
func (p patience) CloseIdleConnections() {
	if next, ok := p.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// body gives back what its request holds when it has been read.
type body struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b body) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
