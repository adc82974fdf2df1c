package xfr

// older reports whether serial a comes before b (RFC 1982 §3.2). Half the circle apart, where the order is undefined,
// a counts as older: a full transfer is always right.
func older(a, b uint32) bool { return a != b && b-a <= 1<<31 }
