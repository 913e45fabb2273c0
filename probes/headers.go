package probes

import (
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// MaxHeaderName is how long the name of a header can be that is told.
const MaxHeaderName = 40

// MaxHeaders is how many headers can be told.
const MaxHeaders = int(bpfobj.ABIDetailLimitsNAMED_HEADERS)

// Headers are the names of the headers that are told, and the number of this list in records.
func (k *Kernel) Headers() (names []string, id uint32) {
	if len(k.cfg.TellHeaders) == 0 {
		return nil, 0
	}
	return k.cfg.TellHeaders, crc32.ChecksumIEEE([]byte(strings.Join(k.cfg.TellHeaders, ","))) | 1
}

// nameHeaders tells the programs which headers are told. While the list changes they tell none, so that no value is told by
// half a name.
func (k *Kernel) nameHeaders() error {
	names, id := k.Headers()
	if len(names) > MaxHeaders {
		return fmt.Errorf("naming headers: %d are more than %d", len(names), MaxHeaders)
	}
	list := bpfobj.ABIHeaderNames{Id: id}
	for i, name := range names {
		if name == "" || len(name) > MaxHeaderName {
			return fmt.Errorf("naming headers: %q does not have 1 to %d bytes", name, MaxHeaderName)
		}
		list.Name[i] = headerName(name + ":")
	}
	m := k.maps.Map("told_headers")
	var old bpfobj.ABIHeaderNames
	if err := m.Lookup(uint32(0), &old); err != nil {
		return fmt.Errorf("reading the names of headers: %w", err)
	}
	if old == list {
		return nil
	}
	if err := k.setFlag(bpfobj.ABIControlFlagsCONTROL_TELL_HEADERS, false); err != nil {
		return err
	}
	if err := m.Put(uint32(0), list); err != nil {
		return fmt.Errorf("naming headers: %w", err)
	}
	return nil
}

// headerName is how a line of a head begins, as the programs compare it.
func headerName(prefix string) bpfobj.ABIHeaderName {
	const wordLen = 8
	n := bpfobj.ABIHeaderName{Len: uint32(len(prefix))}
	for i := range len(prefix) {
		shift := i % wordLen * 8
		n.Word[i/wordLen] |= uint64(prefix[i]) << shift
		n.Mask[i/wordLen] |= 0xff << shift
	}
	return n
}
