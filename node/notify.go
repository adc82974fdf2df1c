package node

import (
	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notifier tells systemd how the node does (sd_notify(3)); without systemd it does nothing.
type notifier struct {
	log  *zap.Logger
	last string
}

// ready says that DNS answers. Units that need etcd itself wait with `etcd-dns status --wait`.
func (n *notifier) ready() { n.send(daemon.SdNotifyReady) }

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping) }

// status is one line for `systemctl status`; it is sent when it changes.
func (n *notifier) status(line string) {
	if line != n.last {
		n.last = line
		n.send("STATUS=" + line)
	}
}

func (n *notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd was not notified", zap.String("state", state), zap.Error(err))
	}
}
