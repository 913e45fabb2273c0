package daemon

import (
	"net/netip"
	"sync"
	"time"
)

// How long a peer's name is taken for granted once it was looked up, by the time in the records, and of how many peers. A look
// into the kernel's map takes longer than reading a record, of which there may be one for each request.
const (
	peerNameAge  = time.Second
	maxPeerNames = 4096
)

// peerNames are the names of the peers of the last second. Make one with newPeerNames; it is safe for several goroutines.
type peerNames struct {
	ask  func(container uint64, peer netip.Addr) string
	mu   sync.Mutex
	kept map[peerOf]keptName
}

// peerOf is a peer as a container knows it.
type peerOf struct {
	container uint64
	addr      netip.Addr
}

// keptName is a name, "" for none, and when it was looked up.
type keptName struct {
	name string
	at   time.Time
}

func newPeerNames(ask func(container uint64, peer netip.Addr) string) *peerNames {
	return &peerNames{ask: ask, kept: map[peerOf]keptName{}}
}

// of is what a container called a peer at a time, or up to peerNameAge before; "" if it has no name.
func (p *peerNames) of(container uint64, peer netip.Addr, at time.Time) string {
	key := peerOf{container, peer}
	p.mu.Lock()
	k, ok := p.kept[key]
	p.mu.Unlock()
	if age := at.Sub(k.at); ok && age < peerNameAge && age > -peerNameAge {
		return k.name
	}
	name := p.ask(container, peer)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) >= maxPeerNames {
		clear(p.kept) // a workload may call as many peers as it likes; those that count come again
	}
	p.kept[key] = keptName{name, at}
	return name
}
