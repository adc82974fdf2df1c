package node

// prompt asks a loop to look again. It holds one signal: more of them before the loop has looked are the same.
type prompt chan struct{}

func newPrompt() prompt { return make(prompt, 1) }

// send never blocks.
func (p prompt) send() {
	select {
	case p <- struct{}{}:
	default:
	}
}
