// Package srvboot decides how this node's etcd member starts, checks it, and runs it.
//
// Facts are gathered from the own disk and from direct answers of the other nodes; Decide turns them into a Plan
// without touching anything; Boot executes the plan. A member starts as new only from a genesis that every initial
// member accepted and persisted.
package srvboot
