package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/etcd-dns/etcd-dns/roster"
)

// movesError is a Corefile that moves a member.
type movesError struct{ *ConfigError }

func (e *movesError) Unwrap() error { return e.ConfigError }

// moves is an error if a node line puts a member elsewhere than where its cluster lists it, and than the options from do. Peer URLs are
// part of the cluster: the others would look for that member where it is not.
func (o *Options) moves(from *Options, cluster string, members []roster.Member) error {
	for _, m := range members {
		at := fmt.Sprintf("%s:%d", m.PeerHost, m.PeerPort)
		was, _ := from.peerPlace(m.Node, cluster)
		now, l := o.peerPlace(m.Node, cluster)
		if now != "" && now != at && now != was {
			return &movesError{&ConfigError{File: o.Corefile, Line: l.Line,
				What: fmt.Sprintf("the member of %s is at %s, and its node line would have it at %s", m.Node, at, now),
				Fix: fmt.Sprintf("leave it there; to move it: etcd-dns member remove %s, then the new line on every node, a restart of %s, and etcd-dns member add %s",
					m.Node, m.Node, m.Node)}}
		}
	}
	return nil
}

// peerPlace is the host label and port of the peer URL that a node of a cluster has by its line; empty without one.
func (o *Options) peerPlace(node, cluster string) (string, NodeLine) {
	c, _ := o.cluster(cluster)
	l, ok := o.node(node)
	if !ok || l.Cluster != cluster {
		return "", l
	}
	return fmt.Sprintf("%s:%d", l.roster(0).PeerHost(), c.PeerPort), l
}

// movesSaved is moves by the member lists that a data directory remembers. What cannot be read says nothing.
func (o *Options) movesSaved(from *Options, data string) error {
	file := filepath.Join(data, rosterFile)
	s, err := readSavedRoster(file)
	if err != nil {
		return nil //nolint:nilerr // whoever loads it says so
	}
	for _, v := range s.Views {
		var moved *movesError
		if errors.As(o.moves(from, v.Cluster, v.Members), &moved) {
			moved.Fix += "; if it was moved while this node was down, that is taken as soon as the others say so; for run --strict, rm " + file
			return moved
		}
	}
	return nil
}
