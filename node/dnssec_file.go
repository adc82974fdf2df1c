package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// dnssecFile is the name of the signing state below the data directory.
const dnssecFile = "dnssec.json"

// load reads the state before DNS answers, so that a restarted node signs from its first answer on. A damaged file is
// logged and left out: the other nodes have the state too.
func (d *dnssec) load() error {
	s, err := readDNSSEC(d.file)
	var newer *usageError
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.As(err, &newer):
		return err
	}
	d.mu.Lock()
	s = sign.Merge(s, s, d.clockLocked()) // the epoch, after a long sleep
	d.mu.Unlock()
	var signer sign.Signer
	if err == nil {
		signer, err = d.makeSigner(s)
	}
	if err != nil {
		d.log.Error("the signing state cannot be used; the zone is not signed until another node tells it", zap.String("file", d.file), zap.Error(err))
		return nil
	}
	d.mu.Lock()
	d.state, d.known, d.saved = s, true, true
	d.mu.Unlock()
	d.swap(signer)
	return nil
}

func readDNSSEC(file string) (s sign.State, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return sign.State{}, fmt.Errorf("read the signing state: %w", err)
	}
	if s.Format > sign.Format {
		return sign.State{}, &usageError{what: fmt.Sprintf("%s has format %d, this etcd-dns knows up to %d", file, s.Format, sign.Format), hint: "run the newer etcd-dns"}
	}
	return s, nil
}

func (d *dnssec) save(s sign.State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the signing state: %w", err)
	}
	if err := durable.WriteFile(d.file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the signing state: %w", err)
	}
	return nil
}

// wantsDS reports whether the parent may have a DS now.
func wantsDS(s sign.State) bool { return s.Mode == sign.On && s.Announced }

func dsOf(s sign.State, ring *sign.Ring, domain string) ([]dns.RR, error) {
	if !wantsDS(s) {
		return nil, nil
	}
	active, _ := s.ActiveKey()
	k, err := ring.Key(active.Number)
	if err != nil {
		return nil, err
	}
	return []dns.RR{k.DS(domain)}, nil
}
