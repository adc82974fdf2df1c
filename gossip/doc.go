// Package gossip keeps a roster by talking to the other nodes through memberlist.
//
// Each run of a node says one Record of itself, and hears those of the others with a verdict: alive, dead or left. That
// is hearsay. It tells a node whom to ask and what changed; nothing here removes a member, a node or an address, and no
// caller may let it (docs/design/gossip.md).
package gossip
