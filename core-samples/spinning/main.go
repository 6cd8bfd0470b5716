// Command spinning keeps a goroutine running, whose counter is in a register in an optimised build: Sum, which
// anybody can read, is at every instruction the counter times the argument, or one step before or behind.
package main

import (
	"time"

	"mapscope.example/samples/truth"
)

// Sum is Step times the rounds so far.
var Sum uint64

// Step is the argument of spin.
const Step = 7

//go:noinline
func spin(step, rounds uint64) {
	for round := uint64(0); round < rounds; round++ {
		Sum += step
	}
}

func main() {
	truth.Start()
	go spin(Step, 1<<60)
	time.Sleep(20 * time.Millisecond)
	truth.Ready(truth.Mode())
}
