package node

import (
	"errors"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// servedReverse is a reverse zone that is published beside the domain, with a serial of its own.
type servedReverse struct {
	zone      zone.Reverse
	store     *zone.Store
	publisher *zone.Publisher
}

// publishReverse publishes the reverse zones of the Corefile that serves now. They hang on configuration alone, so
// they are there before the cluster is. One that fails keeps its last content, and the others and the domain go on.
func (p *publisher) publishReverse(r roster.Roster, rep srvboot.Report) error {
	n := p.node
	o := n.options()
	p.reverse = p.reverseZones(o)
	// Reverse zones are not signed: their parents' DS would be further keys to watch.
	options := zone.Options{Contact: o.Contact, TTL: o.TTL}
	stores := []*zone.Store{n.store}
	var errs []error
	for _, z := range p.reverse {
		z.publisher.SetOptions(options)
		changed, err := z.publisher.Publish(r, publishedZone(rep, z.zone.Zone))
		errs = append(errs, err, unrecorded(z.publisher))
		if changed {
			n.transfers.notifier.Changed()
			p.log.Info("zone published", zap.String("zone", z.zone.Zone), zap.Uint32("serial", z.store.Load().Serial()))
		}
		if z.store.Load() != nil {
			stores = append(stores, z.store)
		}
	}
	if !slices.Equal(stores, n.zones.All()) {
		n.zones.Set(stores...)
	}
	return errors.Join(errs...)
}

// reverseZones returns the zones that are configured now; those that were before keep their publishers. The record of
// serials stays behind when a zone goes, so that it never goes back if it returns.
func (p *publisher) reverseZones(o *Options) (out []servedReverse) {
	for _, v := range o.Reverse {
		i := slices.IndexFunc(p.reverse, func(z servedReverse) bool { return z.zone == v })
		if i >= 0 {
			out = append(out, p.reverse[i])
			continue
		}
		z := servedReverse{zone: v, store: zone.NewStore()}
		serials := zone.NewSerials(o.File("serial-"+url.PathEscape(v.Zone)), p.node.numbering.own(), time.Now)
		z.publisher = zone.NewReversePublisher(z.store, v, zone.Options{}, serials)
		out = append(out, z)
	}
	return out
}

// publishedZone lists what the other nodes serve of a zone that is not the domain.
func publishedZone(rep srvboot.Report, name string) (out []zone.Published) {
	for _, a := range rep.Answers {
		if c, ok := a.State.Zones[name]; ok && !a.At.IsZero() {
			out = append(out, zone.Published{Serial: c.Serial, Digest: c.Digest})
		}
	}
	return out
}
