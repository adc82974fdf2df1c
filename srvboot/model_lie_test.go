package srvboot

import (
	"maps"
	"slices"
	"time"
)

// lie breaks a rule of Decide.
func (mut memberMutant) lie(f Facts) Facts {
	if mut.noRollback {
		f.Disk.Identity.Index, f.Disk.Seen.Nodes = 0, nil
	}
	for name, a := range f.Peers {
		if mut.noRollback {
			a.State.Seen = nil
		}
		if adm := a.State.Admission; mut.anyRun && adm != nil {
			forged := *adm
			forged.Run = f.Run
			a.State.Admission = &forged
		}
		f.Peers[name] = a
	}
	if mut.noTombstone {
		f.Disk.Seen.Tombstones = nil
	}
	return f
}

// reconcile breaks a rule of Reconcile.
func (mut memberMutant) reconcile(f ChangeFacts) NextChange {
	if f.Self.Links != nil {
		f.Self.Links = slices.Clone(f.Self.Links)
	}
	for name, a := range f.Peers {
		c := a.State.Claim
		if c == nil {
			continue
		}
		own := *c
		if e, listed := listedNode(f.Self.Members, name); mut.byURL && listed {
			own.Lost = e.ID
		}
		if mut.noTombstone {
			own.Retired = false
		}
		a.State.Claim = &own
		f.Peers[name] = a
		for i, l := range f.Self.Links {
			if l.ID == own.Lost && mut.noStream {
				f.Self.Links[i].Quiet = learnerLost
			}
			if l.ID != own.Lost && mut.noQuorum {
				f.Self.Links[i].Quiet = 0
			}
		}
	}
	if mut.noQuorum { // a member of nobody makes three of two, and who cannot be asked is passed over
		f.Welcomed = slices.Concat(f.Welcomed, slices.Collect(maps.Keys(f.Peers)))
		f.Self.Members = append(slices.Clone(f.Self.Members), MemberEntry{ID: "ff", PeerURLs: []string{"https://nobody.example.com:2380"}})
		f.Self.Links = append(f.Self.Links, Link{ID: "ff"})
	}
	if mut.unsynced {
		f.NearSince = map[string]time.Time{}
		for i, l := range f.Self.Links {
			f.Self.Links[i].Match = f.Self.Commit
			f.NearSince[l.ID] = modelTime.Add(-promoteAfter)
		}
	}
	return Reconcile(f)
}
