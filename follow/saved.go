package follow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
)

// savedFormat is the version of the file.
const savedFormat = 1

type savedList struct {
	Format int             `json:"format"`
	List   roster.Followed `json:"list"`
}

func (f *Follower) load() error {
	text, err := os.ReadFile(f.o.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var s savedList
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Format > savedFormat {
		err = fmt.Errorf("format %d is newer than %d", s.Format, savedFormat)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", f.o.File, err)
	}
	if err := s.List.Check(); err != nil {
		return fmt.Errorf("read %s: %w", f.o.File, err)
	}
	if f.o.ID == "" || f.o.ID == s.List.ClusterID {
		f.list, f.saved = s.List, s.List
	}
	return nil
}

func (f *Follower) saveLocked() error {
	if f.saved.Same(f.list) && f.saved.Generation == f.list.Generation {
		return nil
	}
	text, err := json.MarshalIndent(savedList{Format: savedFormat, List: withoutHealth(f.list)}, "", "  ")
	if err == nil {
		err = durable.WriteFile(f.o.File, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save the member list: %w", err)
	}
	f.saved = f.list
	return nil
}

// withoutHealth leaves out what belongs to the moment.
func withoutHealth(l roster.Followed) roster.Followed {
	l.Contact, l.Members = false, slices.Clone(l.Members)
	for i := range l.Members {
		l.Members[i].Serving = false
	}
	return l
}
