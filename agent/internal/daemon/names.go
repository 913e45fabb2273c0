package daemon

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes/judge"
)

// sweepEvery is how often what has expired makes room for what DNS tells next. A container can be told
// names.perContainer addresses in that time.
const sweepEvery = 5 * time.Second

// sweepNames takes expired names out of the kernel until ctx ends. An error opens nothing: what has
// expired is not looked at by the kernel, it only takes room.
func sweepNames(ctx context.Context, names *judge.Names, log logrus.FieldLogger) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		swept, err := names.Sweep()
		if err != nil {
			log.WithError(err).Warn("expired names stay; containers may reach their bound")
			continue
		}
		if swept != (judge.Swept{}) {
			log.WithFields(logrus.Fields{"addresses": swept.Addresses, "names": swept.Names}).Debug("expired names went")
		}
	}
}
