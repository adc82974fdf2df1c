package srvboot

import (
	"encoding/json"
	"os"
)

// Owner returns the node and the bundle that the marker names, empty when there is none that can be read. It is for
// an error message before the start; Facts judges the marker.
func (d *Disk) Owner() (node, bundle string) {
	text, err := os.ReadFile(d.path(markerFile))
	if err != nil {
		return "", ""
	}
	var m struct{ Node, Bundle string }
	if json.Unmarshal(text, &m) != nil {
		return "", ""
	}
	return m.Node, m.Bundle
}
