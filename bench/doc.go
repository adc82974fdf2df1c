// Package bench measures etcd-dns beside the alternatives in the same run.
//
// Machines are noisy, so nothing here asserts a time: figures come as medians and as ratios per round.
package bench
