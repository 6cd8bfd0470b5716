// Several goroutines write to one map without a lock, until the runtime notices and kills the program;
// with the argument `one`, main alone writes, and the map only grows.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// Shared is written by everybody.
var Shared = map[int64]int64{}

func main() {
	debug.SetTraceback("crash")
	fmt.Printf("READY pid=%d\n", os.Getpid())
	if len(os.Args) > 1 && os.Args[1] == "one" {
		for i := int64(0); i < 1<<20; i++ {
			Shared[i] = i
		}
		return
	}
	for w := int64(0); w < 4; w++ {
		go func(w int64) {
			for i := int64(0); ; i++ {
				Shared[i%512] = w
			}
		}(w)
	}
	time.Sleep(time.Minute)
}
