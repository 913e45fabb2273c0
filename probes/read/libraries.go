package read

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/probes/internal/elfsym"
)

// Library is a TLS library that taps can read.
type Library string

// The libraries.
const (
	OpenSSL Library = "OpenSSL" // and BoringSSL, which kept these functions
	GnuTLS  Library = "GnuTLS"
	NSS     Library = "NSS"
	Go      Library = "Go crypto/tls"
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
	// the same with flags before what it took
	progWriteEx2 = "read_tls_write_ex2"
	progUnread   = "read_tls_unread"
	progAgain    = "read_tls_again"
	progEnd      = "read_tls_end"
	progRead     = "read_tls_read"
	progReadEx   = "read_tls_read_ex"
	progGot      = "read_tls_got" // ssize_t got
	progGotN     = "read_tls_got_int"
	progCall     = "read_go_call"
	progRecord   = "read_go_record"
	progStart    = "read_go_start"
	progGoRead   = "read_go_read"
	progGoGot    = "read_go_got"

	progNSSImport = "read_nss_import"
	progNSSUse    = "read_nss_use"
	progNSSWrite  = "read_nss_write"
	progNSSWrote  = "read_nss_wrote"
	progNSSSend   = "read_nss_send"
)

// libraries lists what is watched of each library of C functions.
func libraries() map[Library][]function {
	return map[Library][]function{
		OpenSSL: {
			{name: "SSL_do_handshake", program: progUse, must: true},
			{name: "SSL_connect", program: progUse, must: true},
			{name: "SSL_read", program: progUse, must: true},
			{name: "SSL_read_ex", program: progUse},
			{name: sslWrite, program: progWriteN, returns: progWroteN, must: true},
			{name: sslEx, program: progWriteEx, returns: progWroteN},
			{name: sslEx2, program: progWriteEx2, returns: progWroteN},
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

// answers lists what is watched besides where answers are told. The same functions have other programs above: where the
// agent is started without this, none of those is missing.
func answers() map[Library][]function {
	return map[Library][]function{
		OpenSSL: {
			{name: "SSL_read", program: progRead, returns: progGotN},
			{name: "SSL_read_ex", program: progReadEx, returns: progGotN},
		},
		GnuTLS: {
			{name: "gnutls_record_recv", program: progRead, returns: progGot},
		},
	}
}

// watched lists what is watched of a library, with told also what brings answers.
func watched(lib Library, told bool) []function {
	if !told {
		return libraries()[lib]
	}
	return slices.Concat(libraries()[lib], answers()[lib])
}

// goFunction is a function of Go's crypto/tls and the programs that watch it.
type goFunction struct {
	name  string
	first string // watches its first instruction, which can run several times in a call, if any
	body  string // watches where its body begins
}

// ofGo lists what is watched of Go's crypto/tls, all of which must be there. A program that is no client of TLS has no
// function that starts a handshake.
func ofGo() []goFunction {
	return []goFunction{
		{name: "crypto/tls.(*Conn).writeRecordLocked", first: progCall, body: progRecord},
		{name: "crypto/tls.(*Conn).clientHandshake", body: progStart},
	}
}

// names lists the names of functions.
func names(functions []function) []string {
	out := []string{}
	for _, fn := range functions {
		out = append(out, fn.name)
	}
	return out
}

// inspect finds the libraries that a file is or has inside, and where their functions are, with told also those that bring
// answers. Without any the library is empty, and the error wraps elfsym.ErrNotFound. The error can also be that of one library beside others.
func inspect(r io.ReaderAt, told bool) (lib Library, points []point, err error) {
	f, err := elfsym.Open(r)
	if err != nil {
		return "", nil, err
	}
	if !f.IsNative() {
		return "", nil, fmt.Errorf("%w: of another machine", elfsym.ErrFormat)
	}
	libs, errs := []string{}, []error{}
	add := func(lib Library, more []point, err error) {
		switch {
		case err == nil:
			libs, points = append(libs, string(lib)), append(points, more...)
		case !errors.Is(err, elfsym.ErrNotFound):
			errs = append(errs, fmt.Errorf("%s: %w", lib, err))
		}
	}
	wanted := names(slices.Concat(slices.Collect(maps.Values(libraries()))...))
	found, err := f.Funcs(slices.Concat(wanted, opensslNames(), nssNames())...)
	if err != nil && !errors.Is(err, elfsym.ErrNotFound) {
		return "", nil, err
	}
	more, err := place(watched(GnuTLS, told), found)
	add(GnuTLS, more, err)
	more, err = placeOpenSSL(f, watched(OpenSSL, told), found)
	add(OpenSSL, more, err)
	more, err = placeNSS(f, found, told)
	add(NSS, more, err)
	more, err = placeGo(f, told)
	add(Go, more, err)
	if len(libs) == 0 && len(errs) == 0 {
		return "", nil, unread(f)
	}
	return Library(strings.Join(libs, ", ")), points, errors.Join(errs...)
}

// unread says why no library of a file can be read: it has none, or one whose code nobody can follow.
//
// That of rustls depends on its version and on the compiler: what takes cleartext is inlined, or takes it in a form that
// has changed with versions, and its object moves in memory between its handshake and what is written, so that nothing ties
// it to a socket (ARCHITECTURE.md has what was measured). Compilers leave the paths of its sources in a program that can
// panic, stripped or not.
func unread(f *elfsym.File) error {
	none := fmt.Errorf("%w: of no TLS library", elfsym.ErrNotFound)
	if f.IsGo() {
		return none
	}
	has, err := f.Contains(".rodata", "/rustls-")
	switch {
	case err != nil:
		return err
	case has:
		return fmt.Errorf("%w: it has rustls inside, which has no function that lasts", elfsym.ErrCode)
	}
	return none
}

// goRead reads what a server says.
const goRead = "crypto/tls.(*Conn).Read"

// placeGo places the programs of Go's crypto/tls, where the bodies of its functions begin, and with told what brings answers.
func placeGo(f *elfsym.File, told bool) ([]point, error) {
	wanted := []string{goRead}
	for _, fn := range ofGo() {
		wanted = append(wanted, fn.name)
	}
	found, err := f.GoFuncs(wanted...)
	if err != nil {
		return nil, err
	}
	var out []point
	for _, fn := range ofGo() {
		at, ok := found[fn.name]
		if !ok {
			return nil, fmt.Errorf("%w: %s", elfsym.ErrNotFound, fn.name)
		}
		body, err := f.GoBody(at)
		if err != nil {
			return nil, err
		}
		if fn.first != "" {
			out = append(out, point{program: fn.first, offset: at.Offset})
		}
		out = append(out, point{program: fn.body, offset: body})
	}
	if told {
		out = append(out, placeGoRead(f, found[goRead])...)
	}
	return out, nil
}

// placeGoRead places what brings answers, where a function begins and wherever it returns. One that is not there, or whose code
// nobody can follow, brings none: open.
func placeGoRead(f *elfsym.File, fn elfsym.Func) []point {
	returns, err := f.Returns(fn)
	if err != nil {
		return nil
	}
	out := []point{{program: progGoRead, offset: fn.Offset}}
	for _, at := range returns {
		out = append(out, point{program: progGoGot, offset: at})
	}
	return out
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
