package srvboot

import "fmt"

// ranLater says who remembers this member running, when the disk says that it never ran.
func (s *situation) ranLater() string {
	g := s.genesis()
	id := s.marker.MemberID
	data := s.f.Disk.Data
	if g == nil || id == "" || (data != Stamped && data != Stub && !(data == None && s.phase == Accepted)) {
		return ""
	}
	for _, a := range s.fresh {
		// A member alone applies nothing but the entries of its own birth, one for each member.
		if see := a.State.Seen; see != nil && see.MemberID == id && see.Index > uint64(len(g.Members)) {
			return fmt.Sprintf("%s saw member %s at index %d, and here it never ran", a.Node, id, see.Index)
		}
	}
	return ""
}

// brokenChain says who remembers a life of this node that its disk does not lead up to (R9).
func (s *situation) brokenChain() string {
	own := s.f.Disk.Identity
	if own.Boot == "" {
		return ""
	}
	for _, a := range s.fresh {
		see := a.State.Seen
		switch {
		case see == nil || see.Boot == "":
		case see.MemberID != "" && s.marker.MemberID != "" && see.MemberID != s.marker.MemberID:
			// Another member of this node's, on a disk that is gone: its lives are not this disk's.
		case see.Life > own.Life:
			return fmt.Sprintf("%s saw life %d, this is life %d", a.Node, see.Life, own.Life)
		case see.Life == own.Life && see.Boot != own.Boot,
			see.Life+1 == own.Life && own.Previous != "" && see.Boot != own.Previous:
			return fmt.Sprintf("%s saw another run %s as life %d than this disk remembers", a.Node, see.Boot, see.Life)
		}
	}
	return ""
}
