package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/config"
)

// Limits of the server. The API waits ten seconds at most, and whoever else asks is not trusted.
const (
	headerTimeout = 5 * time.Second
	answerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	endTimeout    = 5 * time.Second
	maxHeader     = 16 << 10
)

// serve answers POST /review over TLS, and GET /healthz, until ctx ends.
func serve(ctx context.Context, cfg config.Webhook, reviews http.Handler, log logrus.FieldLogger) error {
	pair := &keyPair{cert: cfg.Cert, key: cfg.Key}
	if _, err := pair.get(nil); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /review", reviews)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get},
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return fmt.Errorf("listening for the API: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	log.WithField("address", listener.Addr().String()).Info("answering the API")
	select {
	case err := <-ended:
		return fmt.Errorf("answering the API: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	err = server.Shutdown(end)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("ending the webhook: %w", err)
	}
	return nil
}

// keyPair reads a certificate and its key, and reads them again after they were replaced. Where the new ones cannot be
// read, those before stay.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time // of the certificate's file
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.cert)
	if err == nil && p.loaded != nil && info.ModTime().Equal(p.at) {
		return p.loaded, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(p.cert, p.key)
	}
	switch {
	case err == nil:
		p.loaded, p.at = &pair, info.ModTime()
	case p.loaded == nil:
		return nil, fmt.Errorf("reading the webhook's certificate: %w", err)
	}
	return p.loaded, nil
}
