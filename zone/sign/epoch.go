package sign

import "time"

// An epoch is a stretch of time that the nodes share; all signatures of one epoch have one validity.
const (
	// EpochLength is how often every signature is made anew.
	EpochLength = 4 * 24 * time.Hour
	// Early is how long before its epoch a signature is valid: validators' clocks are off, and those of the nodes too.
	Early = 24 * time.Hour
	// Validity is the whole life of a signature. At the end of an epoch nine days are left, in which a rack whose clocks
	// are all wrong can be mended.
	Validity = 14 * 24 * time.Hour
)

// EpochAt returns the epoch of a time: whole epochs since 1970.
func EpochAt(t time.Time) uint32 {
	return uint32(max(t.Unix(), 0) / int64(EpochLength/time.Second))
}

// EpochStart returns the time at which an epoch begins.
func EpochStart(epoch uint32) time.Time {
	return time.Unix(int64(epoch)*int64(EpochLength/time.Second), 0).UTC()
}

// Inception and Expiration bound the validity of an epoch's signatures (RFC 4034 §3.1.5).
func Inception(epoch uint32) time.Time { return EpochStart(epoch).Add(-Early) }

// Expiration is the end of what Inception begins.
func Expiration(epoch uint32) time.Time { return Inception(epoch).Add(Validity) }

// begun reports whether the signatures of an epoch are valid yet.
func begun(epoch uint32, now time.Time) bool { return !now.Before(Inception(epoch)) }
