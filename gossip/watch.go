package gossip

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// watcher logs what happens to peers, and remembers those that are alive.
type watcher struct {
	o     Options
	peers *table
	past  memory
	// logged is the status that was logged last, by memberlist name.
	logged map[string]Status
	// unsaved says that past holds what the file does not.
	unsaved   bool
	reminders *limiter
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	w.logged = map[string]Status{}
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for {
		select {
		case <-w.peers.moved:
			w.log(w.peers.list())
		case <-save.C:
			w.save(w.peers.list())
		case <-ctx.Done():
			w.save(w.peers.list())
			return
		}
	}
}

// log says each change of status once.
func (w *watcher) log(peers []Peer) {
	now := map[string]Status{}
	for _, p := range peers {
		node := p.nodeName()
		now[node] = p.Status
		if last, known := w.logged[node]; known && last == p.Status {
			continue
		}
		level := zapcore.InfoLevel
		if p.Status == Dead {
			level = zapcore.WarnLevel
		}
		fields := []zap.Field{zap.String("node", p.Name), zap.String("boot", p.Boot), zap.Stringer("address", p.Addr)}
		if p.Problem != "" {
			fields = append(fields, zap.String("problem", p.Problem))
		}
		w.o.Log.Log(level, "gossip: a node is "+p.Status.String(), fields...)
	}
	w.logged = now
}

// save writes the file when it is time to.
func (w *watcher) save(peers []Peer) {
	w.unsaved = w.past.see(peers, time.Now()) || w.unsaved
	if !w.unsaved || w.o.File == "" {
		return
	}
	err := w.past.write(w.o.File)
	w.unsaved = err != nil
	if err != nil {
		if _, say := w.reminders.admit("save", time.Now()); say {
			w.o.Log.Warn("gossip: the nodes that are seen are not remembered for the next start", zap.Error(err))
		}
	}
}
