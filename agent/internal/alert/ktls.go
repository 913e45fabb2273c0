package alert

import (
	"fmt"

	"github.com/sallyport/sallyport/probes/event"
)

// ktls is about what a process asked of the TLS of the kernel.
func (r *Record) ktls() string {
	e := &r.Event
	line := words(verb(e), KTLSPartName(e.KTLS.Part), "by the kernel", suite(e.KTLS), at(r), "of", who(r), r.where())
	if e.Verdict == event.VerdictNone {
		return line
	}
	if e.KTLS.Tapped {
		return line + ": rules allow requests only, which are read in the library, so that it encrypts by itself"
	}
	return line + ": rules allow requests only, and nobody could read them"
}

// suite is version and cipher, where they are known.
func suite(k event.KTLS) string {
	if k.Version == 0 {
		return ""
	}
	return words("with TLS", TLSVersionName(k.Version), CipherName(k.Cipher))
}

// at is the connection that it is about.
func at(r *Record) string {
	if peer := r.Peer(); peer != "" {
		return "to " + peer
	}
	return ""
}

// KTLSPartName is what the kernel was asked for; "" for nothing.
func KTLSPartName(p event.KTLSPart) string {
	switch p {
	case event.KTLSNone:
		return ""
	case event.KTLSULP:
		return "encryption"
	case event.KTLSSend:
		return "sending"
	case event.KTLSReceive:
		return "receiving"
	}
	return number(p)
}

// TLSVersionName is a version of TLS, 1.2 or 1.3, else as the number that TLS has for it; "" for none.
func TLSVersionName(version uint16) string {
	switch version {
	case 0:
		return ""
	case tls12:
		return "1.2"
	case tls13:
		return "1.3"
	}
	return fmt.Sprintf("%#04x", version)
}

// Versions and ciphers as linux/tls.h counts them.
const (
	tls12 = 0x0303
	tls13 = 0x0304

	cipherAESGCM128        = 51
	cipherAESGCM256        = 52
	cipherAESCCM128        = 53
	cipherChaCha20Poly1305 = 54
	cipherSM4GCM           = 55
	cipherSM4CCM           = 56
	cipherARIAGCM128       = 57
	cipherARIAGCM256       = 58
)

// CipherName is the name that the kernel has for a cipher of its TLS, else its number; "" for none.
func CipherName(cipher uint16) string {
	switch cipher {
	case 0:
		return ""
	case cipherAESGCM128:
		return "AES-GCM-128"
	case cipherAESGCM256:
		return "AES-GCM-256"
	case cipherAESCCM128:
		return "AES-CCM-128"
	case cipherChaCha20Poly1305:
		return "CHACHA20-POLY1305"
	case cipherSM4GCM:
		return "SM4-GCM"
	case cipherSM4CCM:
		return "SM4-CCM"
	case cipherARIAGCM128:
		return "ARIA-GCM-128"
	case cipherARIAGCM256:
		return "ARIA-GCM-256"
	}
	return number(cipher)
}
