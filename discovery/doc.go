// Package discovery lets the members of other clusters find each other by a token: it keeps the tokens in etcd, serves
// protocol 2 over HTTP, and is a client of that protocol, which etcd lost in 3.7.
//
// A token is made for a cluster of a size. Each member registers itself below the token, once, and waits until size members
// have. The first size members in the order of registration are the cluster; all see the same ones in the same order, since
// a registration is never changed and its place is the revision of the store that it was created at.
//
// The keys are those of etcd's protocol 3 (server/etcdserver/api/v3discovery/discovery.go), so that members that speak it
// can use the same store directly:
//
//	/_etcd/registry/TOKEN/_config/size      the size in decimal
//	/_etcd/registry/TOKEN/members/ID        NAME=URL[,NAME=URL…]
//
// Protocol 2 is what etcd 2 to 3.6 speak with --discovery: the keys API of etcd 2, of which these paths are served, below
// the root and below /v2/keys/PREFIX:
//
//	GET  /TOKEN/_config/size
//	PUT  /TOKEN/_config/size                                value=SIZE
//	GET  /TOKEN                                             the members
//	GET  /TOKEN?wait=true&recursive=true&waitIndex=N        the next member
//	PUT  /TOKEN/ID?prevExist=false                          value=NAME=URL[,NAME=URL…]
//	GET  /TOKEN/ID[?wait=true&waitIndex=N]
//
// Strangers may use a service, so everything is bounded: what a token, a size, an ID and a registration look like, how many
// tokens there are and what they take in all, how much of the store, how often an address may ask, how long a token lives.
package discovery
