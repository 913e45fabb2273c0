package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/policy"
)

// digestOf is a digest of what a policy says; places in its file do not count.
func digestOf(p *policy.Policy) (uint64, error) {
	text, err := json.Marshal(p.Spec)
	if err != nil {
		return 0, fmt.Errorf("digesting it: %w", err)
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:8]), nil
}

// digest is a digest of a ruleset's clauses and of all that their policies say, so that it is another one where a rule is. It
// is never 0.
func digest(clauses []*clause) uint32 {
	var text []byte
	for _, cl := range clauses {
		text = binary.BigEndian.AppendUint64(text, cl.digest)
		text = binary.BigEndian.AppendUint64(text, cl.rule.Ref)
		text = fmt.Appendf(text, "%t %t %t %t %v;", cl.optional, cl.governs, cl.anyOf, cl.rule.Audit, cl.ports)
	}
	sum := sha256.Sum256(text)
	return max(binary.BigEndian.Uint32(sum[:4]), 1)
}
