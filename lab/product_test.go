//go:build linux

package lab

type productFlavor struct{ bin string }

func (p *productFlavor) prepare(l *Lab) string { return "" }

func (p *productFlavor) argv(l *Lab, n *node) (argv, env []string) { return nil, nil }
