package roster

// View is what one source says of one cluster.
type View struct {
	Cluster           string
	Knowledge         Knowledge
	Generation, Index uint64
	Members           []Member
}

// Newer reports whether v replaces o: knowledge never goes back from born, and among born views the one with the
// higher (generation, applied index) is the later one.
func (v View) Newer(o View) bool {
	if (v.Knowledge == Born) != (o.Knowledge == Born) {
		return v.Knowledge == Born
	}
	if v.Knowledge != Born {
		return v.Knowledge > o.Knowledge
	}
	if v.Generation != o.Generation {
		return v.Generation > o.Generation
	}
	return v.Index > o.Index
}

// Newest returns the view with the highest (generation, applied index) among those of one cluster; born views win
// over all others. With no views it returns one that knows nothing.
func Newest(cluster string, views ...View) View {
	best := View{Cluster: cluster}
	for _, v := range views {
		if v.Cluster == cluster && v.Newer(best) {
			best = v
		}
	}
	return best
}

// Merge lays views over the static roster of the configuration: for each configured cluster the newest view gives
// knowledge and members. Views of clusters that are not configured are left out. Static members are replaced, never
// added to: a member list is complete or absent.
func Merge(static Roster, views ...View) Roster {
	out := static.normal()
	for i := range out.Clusters {
		if out.Clusters[i].Outside {
			continue // see Roster.Follow; a view is of the time when the rack ran a cluster of that name
		}
		v := Newest(out.Clusters[i].Name, views...)
		c := &out.Clusters[i]
		c.Knowledge, c.Generation, c.Index = v.Knowledge, v.Generation, v.Index
		c.Members = nil
		if v.Knowledge == Born {
			c.Members = v.Members
		}
	}
	return out.normal()
}

// WithServing returns the roster with each member's Serving set from a health verdict by cluster and node. When a cluster
// would be left without a serving member, its members keep the verdict they had in last, and when none of those
// serves either, all are published: the client set is never empty once a cluster is born.
func (r Roster) WithServing(serving func(cluster, node string) bool, last Roster) Roster {
	out := r.normal()
	for i := range out.Clusters {
		c := &out.Clusters[i]
		if mark(c.Members, func(node string) bool { return serving(c.Name, node) }) {
			continue
		}
		before, _ := last.Cluster(c.Name)
		if mark(c.Members, before.serving) {
			continue
		}
		mark(c.Members, func(string) bool { return true })
	}
	return out
}

// mark sets Serving on every member and reports whether any serves.
func mark(members []Member, serving func(string) bool) (some bool) {
	for i := range members {
		members[i].Serving = serving(members[i].Node)
		some = some || members[i].Serving
	}
	return some
}

func (c Cluster) serving(node string) bool {
	for _, m := range c.Members {
		if m.Node == node {
			return m.Serving
		}
	}
	return false
}
