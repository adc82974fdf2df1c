package main

import (
	"fmt"
	"io"
	"time"
)

// progressEvery bounds how often plain output repeats itself.
const progressEvery = 2 * time.Second

// progress shows what is being waited for: one line that rewrites itself on a terminal, a plain line now and then
// otherwise.
type progress struct {
	w        io.Writer
	terminal bool
	start    time.Time
	last     string
	at       time.Time
	drawn    bool
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: isTerminal(w), start: time.Now()}
}

// line shows text. Plain output gets it only when it is news and the last line is a while ago.
func (p *progress) line(text string) {
	if p.terminal {
		p.drawn = true
		fmt.Fprintf(p.w, "\r\033[Ketcd-dns: %4.1f s  %.100s", time.Since(p.start).Seconds(), text)
		return
	}
	if text == p.last || time.Since(p.at) < progressEvery {
		return
	}
	p.last, p.at = text, time.Now()
	fmt.Fprintf(p.w, "etcd-dns: %4.1f s  %s\n", time.Since(p.start).Seconds(), text)
}

// end clears the line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
