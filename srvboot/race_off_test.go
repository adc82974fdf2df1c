//go:build !race

package srvboot

const raceDetector = false
