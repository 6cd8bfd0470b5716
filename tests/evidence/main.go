// Program evidence leaks goroutines on a channel of a map that lacks the key, beside goroutines that work and wait
// as they should, and writes what a production service would: goroutine profiles and an execution trace with CPU
// samples. On standard output it says who leaked.
//
// One map also has keys that would be dangerous to print as they are.
//
// Usage: evidence DIRECTORY [other]; `other` starts different functions under the same goroutine ids.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"
)

var (
	mu    sync.Mutex
	leaks []uint64
	subs  = map[string]chan string{}
	work  = make(chan int)
	sink  int
)

func goid() (id uint64) {
	var buf [64]byte
	fmt.Sscanf(string(buf[:runtime.Stack(buf[:], false)]), "goroutine %d ", &id)
	return id
}

// consume looks keys up for long enough to be sampled, then waits on the channel that the last lookup did not find.
//
//go:noinline
func consume(topic string) {
	mu.Lock()
	leaks = append(leaks, goid())
	mu.Unlock()
	until := time.Now().Add(120 * time.Millisecond)
	found := 0
	for time.Now().Before(until) {
		for i := 0; i < 20000; i++ {
			if _, ok := subs[topic+"x"[:i&1]]; ok {
				found++
			}
		}
	}
	mu.Lock()
	sink += found
	mu.Unlock()
	<-subs[topic]
}

//go:noinline
func worker() {
	for n := range work {
		sleepy := time.Duration(n) * time.Microsecond
		time.Sleep(sleepy)
	}
}

//go:noinline
func stranger(topic string) {
	<-subs[topic]
}

func profile(directory, name string, debug int) {
	file, err := os.Create(filepath.Join(directory, name))
	check(err)
	check(pprof.Lookup("goroutine").WriteTo(file, debug))
	check(file.Close())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	directory, run := os.Args[1], consume
	if len(os.Args) > 2 {
		run = stranger
		// Moves the workers' goroutine ids by one.
		go stranger("first")
	}
	for i := 0; i < 100; i++ {
		subs[fmt.Sprintf("topic-%d", i)] = make(chan string, 1)
	}
	for _, key := range []string{
		"</style><script>document.title='run'</script>", "\"><img src=x onerror=alert(1)>", "ctrl\x00\x1b[31m", "\u202egnp.exe",
	} {
		subs[key] = make(chan string)
	}
	for i := 0; i < 4; i++ {
		go worker()
	}
	out, err := os.Create(filepath.Join(directory, "trace.out"))
	check(err)
	samples, err := os.Create(filepath.Join(directory, "cpu.pb.gz"))
	check(err)
	// Samples five times as often; StartCPUProfile then complains on standard error that it cannot change the rate.
	runtime.SetCPUProfileRate(500)
	check(pprof.StartCPUProfile(samples))
	check(trace.Start(out))
	for i := 0; i < 3; i++ {
		topic := fmt.Sprintf("topic-%d ", i)
		go run(topic)
	}
	for i := 0; i < 200; i++ {
		work <- i
	}
	time.Sleep(500 * time.Millisecond)
	profile(directory, "early.txt", 2)
	for i := 3; i < 8; i++ {
		topic := fmt.Sprintf("topic-%d ", i)
		go run(topic)
	}
	time.Sleep(2 * time.Second)
	profile(directory, "late.txt", 2)
	profile(directory, "late.pb.gz", 0)
	trace.Stop()
	pprof.StopCPUProfile()
	check(out.Close())
	mu.Lock()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"leaked": leaks, "go": runtime.Version()}))
	mu.Unlock()
	// Stays to be looked at until standard input ends.
	os.Stdin.Read(make([]byte, 1))
	runtime.KeepAlive(subs)
}
