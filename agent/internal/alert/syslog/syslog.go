// Package syslog is the sink that writes records as RFC 5424 syslog messages: to the local socket,
// over UDP (RFC 5426), over TCP with octet counting (RFC 6587) and over TLS (RFC 5425). It owns
// the message format, the connection and what is known of messages on their way.
//
// Syslog has no acknowledgements. So that a server that goes away loses as little as can be, a
// message counts as on its way until the peer's TCP has confirmed it (for UDP: until no ICMP error
// came back by the next look), and what was on its way when a connection broke is written again on
// the next one. A message may so arrive twice, with the same sequenceId. What a server's kernel
// confirmed and the server never read is lost; the gap in sequenceId tells it to the receiver.
//
// On the local socket the format is RFC 5424 too. journald, and rsyslogd's imuxsock as it comes, know
// only the older form there: they keep the whole message as text. imuxsock parses it with
// UseSpecialParser="off" and ParseHostname="on" (SysSock.… for /dev/log).
//
// It imports alert and probes/event and no other package of this module.
package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// Network is how messages travel.
type Network string

// The networks.
const (
	Unix Network = "unix" // datagrams to a local socket
	UDP  Network = "udp"
	TCP  Network = "tcp" // octet counting
	TLS  Network = "tls" // octet counting inside TLS 1.2 or later
)

// Config says where messages go and what their header says. Zero values get the defaults.
type Config struct {
	Network      Network       // default Unix
	Address      string        // path of the socket, default /dev/log; else host:port
	Facility     Facility      // default daemon; kern (0) is the kernel's own and not possible
	Hostname     string        // default os.Hostname
	AppName      string        // default sallyport
	ProcID       string        // default the process id
	EnterpriseID uint32        // of the SD-ID; default 32473, the number for documentation (RFC 5612)
	MaxMessage   int           // bytes of a message without its octet count, 1024 to 65000; default 8192
	Timeout      time.Duration // of a dial with its handshake, and of a write; default 5 s
	TLS          TLSConfig     // for Network TLS
}

// TLSConfig names the files of a TLS connection. They are read at each dial, so that renewed
// certificates are taken up. The server's certificate is always checked.
type TLSConfig struct {
	CAFile     string // PEM; default the system's authorities
	CertFile   string // PEM of the client certificate; empty for none
	KeyFile    string // PEM of its key
	ServerName string // what the server's certificate must say; default the host of Address
}

const (
	defaultSocket       = "/dev/log"
	defaultFacility     = Facility(3) // daemon
	defaultEnterpriseID = 32473
	defaultMaxMessage   = 8192
	minMaxMessage       = 1024 // holds the longest header, the SD-ID and a short line
	maxMaxMessage       = 65000
	defaultTimeout      = 5 * time.Second
	maxFacility         = 23
)

// complete fills in the defaults and checks the rest.
func (c Config) complete() (Config, error) {
	if c.Network == "" {
		c.Network = Unix
	}
	if c.Network == Unix && c.Address == "" {
		c.Address = defaultSocket
	}
	if c.Facility == 0 {
		c.Facility = defaultFacility
	}
	if c.Hostname == "" {
		hostname, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("reading the host name: %w", err)
		}
		c.Hostname = hostname
	}
	if c.AppName == "" {
		c.AppName = "sallyport"
	}
	if c.ProcID == "" {
		c.ProcID = strconv.Itoa(os.Getpid())
	}
	if c.EnterpriseID == 0 {
		c.EnterpriseID = defaultEnterpriseID
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = defaultMaxMessage
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c, c.check()
}

func (c Config) check() error {
	switch c.Network {
	case Unix:
	case UDP, TCP, TLS:
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return fmt.Errorf("reading the syslog address, which is host:port: %w", err)
		}
	default:
		return fmt.Errorf("reading the syslog network: %q is none of unix, udp, tcp, tls", c.Network)
	}
	switch {
	case c.Facility > maxFacility:
		return fmt.Errorf("reading the syslog facility: %d is above %d", c.Facility, maxFacility)
	case c.MaxMessage < minMaxMessage, c.MaxMessage > maxMaxMessage:
		return fmt.Errorf("reading the syslog message size: %d is not %d to %d", c.MaxMessage, minMaxMessage, maxMaxMessage)
	case c.Timeout < 0:
		return fmt.Errorf("reading the syslog timeout: %s is negative", c.Timeout)
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("reading the syslog client certificate: certificate and key go together")
	}
	if c.Network == TLS {
		_, err := c.tlsConfig()
		return err
	}
	return nil
}

// tlsConfig reads the files. It fails closed: without readable authorities nothing is sent, rather
// than to a server that nobody checked.
func (c Config) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName}
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(c.Address)
		if err != nil {
			return nil, fmt.Errorf("reading the syslog address: %w", err)
		}
		conf.ServerName = host
	}
	if c.TLS.CAFile != "" {
		pem, err := os.ReadFile(c.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the syslog authorities: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the syslog authorities: %s holds no certificate", c.TLS.CAFile)
		}
	}
	if c.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the syslog client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// Sink sends syslog messages. It is an alert.Sink and an alert.Flusher. It dials at the first
// record and again after an error; the fan-out paces the attempts.
type Sink struct {
	cfg      Config
	encode   *encoder
	link     *link // nil while there is no connection
	sequence uint32
	message  []byte
	frame    []byte
	pending  []pending // on their way, oldest first
}

// pending is a frame that was written and that the peer has not confirmed.
type pending struct {
	frame []byte
	end   uint64 // bytes that the link had written after it
}

// New checks the settings and prepares the sink. It does not connect: a server that is away now is
// no error, records wait for it.
func New(cfg Config) (*Sink, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Sink{cfg: cfg, encode: newEncoder(cfg), sequence: 1}, nil
}

// Name is "syslog".
func (s *Sink) Name() string { return "syslog" }

// Send writes one message. When it fails the connection is given up, and the next Send dials anew
// and first writes again what was on its way.
func (s *Sink) Send(ctx context.Context, r *alert.Record) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if s.link == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	s.message = s.encode.append(s.message[:0], r, s.sequence)
	s.frame = s.frame[:0]
	if s.link.stream {
		s.frame = append(strconv.AppendInt(s.frame, int64(len(s.message)), 10), ' ')
	}
	s.frame = append(s.frame, s.message...)
	if err := s.link.write(ctx, s.frame, s.cfg.Timeout); err != nil {
		if errors.Is(err, unix.EMSGSIZE) {
			s.advance() // the gap tells the receiver
			return fmt.Errorf("writing to syslog: %w: %w", err, alert.ErrRejected)
		}
		s.giveUp()
		return fmt.Errorf("writing to syslog: %w", err)
	}
	s.advance()
	s.track(append([]byte(nil), s.frame...))
	return nil
}

// Flush looks whether the connection still stands, and when it broke with messages on their way,
// dials anew and writes those again.
func (s *Sink) Flush(ctx context.Context) error {
	if s.link != nil {
		if err := s.link.broken(); err != nil {
			s.giveUp()
		} else if s.link.stream {
			s.confirm()
		}
	}
	if s.link != nil || len(s.pending) == 0 {
		return nil
	}
	if err := s.dial(ctx); err != nil {
		return err
	}
	again := s.pending
	s.pending = nil
	for i, p := range again {
		if err := s.link.write(ctx, p.frame, s.cfg.Timeout); err != nil {
			s.giveUp()
			s.pending = append(s.pending, again[i:]...)
			return fmt.Errorf("writing to syslog again: %w", err)
		}
		s.track(p.frame)
		if err := s.link.broken(); err != nil {
			s.giveUp()
			s.pending = append(s.pending, again[i+1:]...)
			return fmt.Errorf("writing to syslog again: %w", err)
		}
	}
	return nil
}

// Close waits a little until the peer has confirmed what is on its way, and ends the connection.
// The error says how many messages were not confirmed.
func (s *Sink) Close() error {
	const step = 5 * time.Millisecond
	for waited := time.Duration(0); s.link != nil && s.link.stream && waited < s.cfg.Timeout; waited += step {
		s.confirm()
		if len(s.pending) == 0 || s.link.broken() != nil {
			break
		}
		time.Sleep(step)
	}
	if s.link != nil && s.link.broken() == nil {
		s.confirm()
	}
	s.giveUp()
	if n := len(s.pending); n > 0 {
		return fmt.Errorf("ending the syslog connection: %d messages were not confirmed", n)
	}
	return nil
}

func (s *Sink) dial(ctx context.Context) error {
	l, err := dial(ctx, s.cfg)
	if err != nil {
		return fmt.Errorf("connecting to syslog at %s %s: %w", s.cfg.Network, s.cfg.Address, err)
	}
	s.link = l
	return nil
}

// giveUp ends the connection. What was on its way stays in pending.
func (s *Sink) giveUp() {
	if s.link == nil {
		return
	}
	if s.link.stream {
		s.confirm()
	}
	s.link.close()
	s.link = nil
}

// track notes a frame that was just written.
func (s *Sink) track(frame []byte) {
	if s.link.local {
		return // it is in the receiver's queue already
	}
	s.confirm()
	s.pending = append(s.pending, pending{frame: frame, end: s.link.written()})
}

// confirm forgets what has arrived.
func (s *Sink) confirm() {
	if s.link.local || len(s.pending) == 0 {
		return
	}
	arrived := s.link.confirmed()
	n := 0
	for n < len(s.pending) && s.pending[n].end <= arrived {
		s.pending[n].frame = nil
		n++
	}
	s.pending = s.pending[n:]
}

func (s *Sink) advance() {
	s.sequence++
	if s.sequence > maxSequence {
		s.sequence = 1
	}
}
