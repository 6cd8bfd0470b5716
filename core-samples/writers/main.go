// Goroutines that fill maps of their own, many more than may run, while the garbage collector is never idle: most of
// them were interrupted in the middle of a write, while their map grows. Each says which map is its own.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"mapscope.example/samples/truth"
)

const writers = 32

// Maps has one for each goroutine.
var Maps [writers]map[int64][16]int64

func goid() uint64 {
	words := strings.Fields(string(debug.Stack()))
	id, _ := strconv.ParseUint(words[1], 10, 64)
	return id
}

func write(i int, started *sync.WaitGroup, out *sync.Mutex) {
	out.Lock()
	fmt.Printf(`{"map":"main.Maps[%d]","goid":%d}`+"\n", i, goid())
	out.Unlock()
	started.Done()
	for {
		Maps[i] = map[int64][16]int64{}
		for k := int64(0); k < 4096; k++ {
			Maps[i][k] = [16]int64{k}
		}
	}
}

func main() {
	truth.Start()
	debug.SetGCPercent(1)
	runtime.GOMAXPROCS(2)
	var started sync.WaitGroup
	var out sync.Mutex
	started.Add(writers)
	for i := 0; i < writers; i++ {
		go write(i, &started, &out)
	}
	started.Wait()
	// Some collections later each has been interrupted somewhere.
	var stats runtime.MemStats
	for runtime.ReadMemStats(&stats); stats.NumGC < 50; runtime.ReadMemStats(&stats) {
		runtime.Gosched()
	}
	truth.Ready(truth.Mode())
}
