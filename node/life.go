package node

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// lifeRetry is how often a start that could not be recorded is tried to be: the disk gets room, or the file is moved away.
const lifeRetry = time.Second

// beginLife counts this start on disk. A disk that is full, or a file on it that is damaged, keeps the member from starting, which awaitLife
// waits for, and not the name server.
func (n *Node) beginLife() {
	_, err := n.disk.BeginLife(uuid.NewString, machineID())
	if err == nil {
		n.lifeless.Store(nil)
		return
	}
	err = fmt.Errorf("this start cannot be recorded: %w", err)
	if n.lifeless.Swap(&err) == nil {
		n.log.Error("the member waits, DNS does not", errorFields(err)...)
	}
}

// awaitLife returns once this start is on disk: a member that ran in a life that no other start can know of could come
// back from an older copy of its disk without anybody noticing.
func (n *Node) awaitLife(ctx context.Context) {
	tick := time.NewTicker(lifeRetry)
	defer tick.Stop()
	for n.lifeless.Load() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.beginLife()
		if n.lifeless.Load() == nil {
			n.log.Info("the start is recorded", zap.String("data", n.options().Data))
		}
	}
}
