//go:build race

package srvboot

// raceDetector says that every step costs ten times as much, so that models are explored less far.
const raceDetector = true
