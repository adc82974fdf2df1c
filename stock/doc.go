// Package stock runs etcd as its own command does, with --discovery, which etcd 3.7 lost, and with checks in front that
// explain what etcd would say in one word, or only in its log for ever.
//
// Settings are etcd's: flags, ETCD_* variables, or a configuration file instead of both. What a check finds either ends the
// start with what differs and how to mend it, when etcd would not run or would endanger data, or is a warning.
package stock
