// Package lab tests the product on a whole network: a rack, its parent zone, a resolver and a client, each host in a
// network namespace of one machine, with the real binary, NSD, Unbound, dig and etcdctl.
//
// It holds tests alone. docs/lab.md says how to write another one.
package lab
