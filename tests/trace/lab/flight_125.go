//go:build go1.25

package main

import (
	"os"
	"runtime/trace"
	"time"
)

// record starts a flight recorder and returns what writes its snapshot to f.
func record(f *os.File) func() {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: 100 * time.Millisecond, MaxBytes: 1 << 20})
	if err := recorder.Start(); err != nil {
		panic(err)
	}
	return func() {
		if _, err := recorder.WriteTo(f); err != nil {
			panic(err)
		}
		recorder.Stop()
		f.Close()
	}
}
