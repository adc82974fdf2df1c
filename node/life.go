package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// lifeRetry is how often a start that could not be recorded is tried to be: the disk is full, and gets room.
const lifeRetry = time.Second

// beginLife counts this start on disk. A full disk keeps the member from starting, which awaitLife waits for, and not
// the name server.
func (n *Node) beginLife() error {
	_, err := n.disk.BeginLife(uuid.NewString, machineID())
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		n.lifeless.Store(nil)
		return err
	}
	err = fmt.Errorf("this start cannot be recorded: %w", err)
	if n.lifeless.Swap(&err) == nil {
		n.log.Error("the member waits, DNS does not", errorFields(err)...)
	}
	return nil
}

// awaitLife returns once this start is on disk: a member that ran in a life that no other start can know of could come
// back from an older copy of its disk without anybody noticing.
func (n *Node) awaitLife(ctx context.Context) error {
	tick := time.NewTicker(lifeRetry)
	defer tick.Stop()
	for n.lifeless.Load() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := n.beginLife(); err != nil {
			return err
		}
		if n.lifeless.Load() == nil {
			n.log.Info("the start is recorded", zap.String("data", n.options().Data))
		}
	}
	return nil
}
