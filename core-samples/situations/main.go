// Command situations has goroutines whose stacks are not plain chains of calls: interrupted by a signal that became a
// panic, preempted in a tight loop, locked to a thread, very deep, waiting inside coroutines and in Go that C called.
// It prints which goroutine is in which situation, and what the runtime itself says of their stacks.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mapscope.example/samples/truth"
)

type situation struct {
	Kind string `json:"kind"`
	Goid int    `json:"goid"`
}

var (
	mu         sync.Mutex
	situations []situation
	never      = make(chan int)
	parked     sync.WaitGroup
	nothing    *[1 << 12]int
	zero       int
	// Sink keeps what loops compute.
	Sink uint64
	// more are the situations of newer versions and of cgo.
	more []func()
)

func goid() int {
	text := make([]byte, 64)
	text = text[:runtime.Stack(text, false)]
	id, _ := strconv.Atoi(string(bytes.Fields(text)[1]))
	return id
}

// in says what the calling goroutine is about to be in.
func in(kind string) {
	mu.Lock()
	defer mu.Unlock()
	situations = append(situations, situation{kind, goid()})
}

// park says so and waits for ever.
//
//go:noinline
func park(kind string) int {
	in(kind)
	parked.Done()
	return <-never
}

func start(f func()) {
	parked.Add(1)
	go f()
}

// A nil pointer in a function with a frame, in one without, and in an inlined call; a division by zero.

//go:noinline
func derefs(i int) int { return nothing[i] + i }

func inlined(i int) int { return nothing[i+1] }

//go:noinline
func around(i int) int {
	text := strconv.Itoa(i)
	return inlined(len(text)) + len(text)
}

//go:noinline
func divides(by int) int { return 7 / by }

//go:noinline
func recovers(kind string, wrong func() int) (result int) {
	defer func() {
		if recover() != nil {
			result = park(kind)
		}
	}()
	return wrong()
}

// Panics again while the first one is being handled.
func twice() (result int) {
	defer func() {
		defer func() {
			recover()
			result = park("sigpanic-twice")
		}()
		result = derefs(9)
	}()
	return divides(zero)
}

// Tight loops: with a frame, without, and with all registers in use.

//go:noinline
func spin(counter *uint64) {
	in("preempted")
	for {
		atomic.AddUint64(counter, 1)
	}
}

//go:noinline
func mix(counter *uint64, a, b, c, d uint64) {
	in("preempted")
	for {
		a, b, c, d = b*31+a, c^a, d+b, a<<3|c>>5
		*counter = a ^ b ^ c ^ d | 1
	}
}

//go:noinline
func leaf(counter *uint64) {
	for {
		*counter++
	}
}

func calls(counter *uint64) {
	in("preempted")
	leaf(counter)
}

//go:noinline
func deep(n int) int {
	if n == 0 {
		return park("deep")
	}
	return deep(n-1) + n
}

func locked() {
	runtime.LockOSThread()
	park("locked")
}

// generation starts the next one, so that GODEBUG=tracebackancestors has something to tell.
func generation(n int) {
	if n == 0 {
		park("ancestors")
		return
	}
	go generation(n - 1)
}

func main() {
	// Only a new process takes GODEBUG's word.
	if len(os.Args) > 2 && os.Args[2] == "ancestors" && os.Getenv("GODEBUG") == "" {
		panic(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), "GODEBUG=tracebackancestors=3")))
	}
	truth.Start()
	// One processor, so that all loops but one are preempted.
	runtime.GOMAXPROCS(1)
	start(func() { recovers("sigpanic", func() int { return derefs(1) }) })
	start(func() { recovers("sigpanic-inlined", func() int { return around(2) }) })
	start(func() { recovers("sigpanic-divide", func() int { return divides(zero) }) })
	start(func() { twice() })
	start(locked)
	start(func() { deep(150) })
	start(func() { generation(5) })
	for _, each := range more {
		each()
	}
	parked.Wait()
	counters := new([3]uint64)
	go spin(&counters[0])
	go mix(&counters[1], 1, 2, 3, 4)
	go calls(&counters[2])
	for i := range counters {
		for atomic.LoadUint64(&counters[i]) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	// The last waits have begun when nobody but the loops runs.
	time.Sleep(50 * time.Millisecond)
	text := make([]byte, 1<<20)
	text = text[:runtime.Stack(text, true)]
	json.NewEncoder(os.Stdout).Encode(map[string]any{"situations": situations, "stacks": string(text)})
	truth.Ready(truth.Mode())
}
