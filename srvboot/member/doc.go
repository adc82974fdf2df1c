// Package member runs one etcd member as a supervised child process.
//
// etcd has about forty fatal exits, and raft panics; DNS answers must outlive them (safety.md R7). So the node's
// binary executes itself again: Launcher and Process are the parent's side, Main is the child's whole life, and
// Resolver answers the child's DNS questions from a frozen view (safety.md R8), so that the member depends neither on
// port 53 nor on /etc/resolv.conf.
//
// Between the two run four inherited descriptors and nothing on disk:
//
//	3  parent → child  the Spec, one line of JSON; then nothing, and its end means: stop
//	4  child → parent  reports, one line of JSON each
//	5  a listening unix socket on which the child serves metrics and snapshots and takes changes of membership
//	6  the member lock (safety.md R13), kept open and never used
//
// Standard error carries the child's log as JSON lines. The child reaches the Resolver over an abstract unix socket
// whose random name is part of the Spec; both ends check the other's user ID.
package member
