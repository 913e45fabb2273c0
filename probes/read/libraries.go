package read

import (
	"errors"
	"fmt"
	"io"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// Library is a TLS library that taps can read.
type Library string

// The libraries.
const (
	OpenSSL Library = "OpenSSL" // and BoringSSL, which kept these functions
	GnuTLS  Library = "GnuTLS"
)

// point is where a program is attached.
type point struct {
	program string
	offset  uint64 // in the file
	returns bool   // where the function returns, not where it begins
}

// function is one function of a library and the program that watches it.
type function struct {
	name    string
	program string
	returns string // the program that watches its return, if any
	instead string // another that it calls: with that watched, this need not be
	must    bool   // without it the library cannot be read
}

// The programs of bpf/progs/read_tls.bpf.c.
const (
	progUse     = "read_tls_use"
	progWrite   = "read_tls_write" // size_t len, ssize_t took
	progWrote   = "read_tls_wrote"
	progWriteN  = "read_tls_write_int" // int len, int took
	progWroteN  = "read_tls_wrote_int"
	progWriteEx = "read_tls_write_ex"
	progUnread  = "read_tls_unread"
	progAgain   = "read_tls_again"
	progEnd     = "read_tls_end"
)

// libraries lists what is watched of each library.
func libraries() map[Library][]function {
	return map[Library][]function{
		OpenSSL: {
			{name: "SSL_do_handshake", program: progUse, must: true},
			{name: "SSL_connect", program: progUse, must: true},
			{name: "SSL_read", program: progUse, must: true},
			{name: "SSL_read_ex", program: progUse},
			{name: "SSL_write", program: progWriteN, returns: progWroteN, must: true},
			{name: "SSL_write_ex", program: progWriteEx, returns: progWroteN},
			{name: "SSL_write_early_data", program: progUnread},
			{name: "SSL_sendfile", program: progUnread},
			{name: "SSL_clear", program: progAgain, must: true},
			{name: "SSL_free", program: progEnd, must: true},
		},
		GnuTLS: {
			{name: "gnutls_handshake", program: progUse, must: true},
			{name: "gnutls_record_recv", program: progUse, must: true},
			{name: "gnutls_record_send2", program: progWrite, returns: progWrote},
			{name: "gnutls_record_send", program: progWrite, returns: progWrote, instead: "gnutls_record_send2", must: true},
			{name: "gnutls_record_send_early_data", program: progUnread},
			{name: "gnutls_deinit", program: progEnd, must: true},
		},
	}
}

// inspect finds the library that a file is or has inside, and where its functions are. Without any the
// library is empty, and the error says why; the error of a file that has none wraps elfsym.ErrNotFound.
func inspect(r io.ReaderAt) (lib Library, points []point, err error) {
	f, err := elfsym.Open(r)
	if err != nil {
		return "", nil, err
	}
	names := []string{}
	for _, functions := range libraries() {
		for _, fn := range functions {
			names = append(names, fn.name)
		}
	}
	found, err := f.Funcs(names...)
	if err != nil {
		return "", nil, err
	}
	errs := []error{}
	for lib, functions := range libraries() {
		points, err := place(functions, found)
		if err == nil {
			return lib, points, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", lib, err))
	}
	return "", nil, errors.Join(errs...)
}

// place places the programs of a library.
func place(functions []function, found map[string]elfsym.Func) ([]point, error) {
	var out []point
	for _, fn := range functions {
		at, ok := found[fn.name]
		if !ok {
			if fn.must {
				return nil, fmt.Errorf("%w: %s", elfsym.ErrNotFound, fn.name)
			}
			continue
		}
		if _, ok := found[fn.instead]; ok {
			continue
		}
		out = append(out, point{program: fn.program, offset: at.Offset})
		if fn.returns != "" {
			out = append(out, point{program: fn.returns, offset: at.Offset, returns: true})
		}
	}
	return out, nil
}
