// Package node wires one etcd-dns node together and runs it until its context ends.
//
// The Corefile becomes Options; Options become the objects of the other packages; Run starts them in order, watches
// them, and stops them in the reverse order.
package node
