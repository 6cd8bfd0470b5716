// Command lab writes an execution trace of about -events scheduling events, of every kind of wait.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"
)

var sink int

func pingPong(n int) {
	a, b := make(chan int), make(chan int)
	go func() {
		for v := range a {
			b <- v + 1
		}
		close(b)
	}()
	for i := 0; i < n; i++ {
		a <- i
		sink += <-b
	}
	close(a)
}

func churn(n int) {
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		go func() { wg.Done() }()
		if i%64 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

func locks(n int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := 0; g < 4; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < n; i++ {
				mu.Lock()
				sink++
				if i%16 == 0 {
					runtime.Gosched()
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
}

func selects(n int) {
	a, b, done := make(chan int), make(chan int), make(chan bool)
	go func() {
		for i := 0; i < n; i++ {
			if i%2 == 0 {
				a <- i
			} else {
				b <- i
			}
		}
		close(done)
	}()
	for {
		select {
		case v := <-a:
			sink += v
		case v := <-b:
			sink -= v
		case <-done:
			return
		}
	}
}

func sleeps(n int) {
	for i := 0; i < n; i++ {
		time.Sleep(50 * time.Microsecond)
	}
}

func files(n int) {
	for i := 0; i < n; i++ {
		f, err := os.Open("/proc/self/status")
		if err != nil {
			panic(err)
		}
		var buf [512]byte
		f.Read(buf[:])
		f.Close()
	}
}

func pipes(n int) {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	go func() {
		for i := 0; i < n; i++ {
			w.Write([]byte{1})
			if i%8 == 0 {
				time.Sleep(20 * time.Microsecond)
			}
		}
		w.Close()
	}()
	var b [1]byte
	for {
		if _, err := r.Read(b[:]); err != nil {
			return
		}
	}
}

var subs = map[string]chan int{"b": make(chan int)}

//go:noinline
func consume(key string) { sink += <-subs[key] }

//go:noinline
func lockedWait(mu *sync.Mutex) { mu.Lock() }

// say prints this goroutine's id under a name: the program's own word for what the trace must tell.
func say(name string) {
	var buf [64]byte
	var goid int
	fmt.Sscanf(string(buf[:runtime.Stack(buf[:], false)]), "goroutine %d ", &goid)
	fmt.Println("goid", name, goid)
}

func hotMap(d time.Duration) {
	m := map[int]int{}
	for i := 0; i < 1<<16; i++ {
		m[i*7919] = i
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for i := 0; i < 1<<14; i++ {
			sink += m[i*7919]
		}
	}
	say("hot")
	consume("missing")
}

func main() {
	events := flag.Int("events", 1000, "scheduling events, about")
	out := flag.String("o", "trace.out", "trace file")
	procs := flag.Int("procs", 2, "GOMAXPROCS")
	cpu := flag.Bool("cpu", false, "take CPU samples of a map lookup")
	flight := flag.Bool("flight", false, "take the trace from a flight recorder, long after the goroutines began")
	gc := flag.Bool("gc", true, "collect garbage, which yields very often")
	kill := flag.Bool("kill", false, "leave without stopping the trace")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	go func() { say("old"); consume("old") }() // older than the trace
	time.Sleep(time.Millisecond)
	f, err := os.Create(*out)
	if err != nil {
		panic(err)
	}
	if *cpu {
		p, err := os.Create(*out + ".prof")
		if err != nil {
			panic(err)
		}
		pprof.StartCPUProfile(p)
	}
	stop := func() { trace.Stop(); f.Close() }
	if *flight {
		stop = record(f)
	} else if err := trace.Start(f); err != nil {
		panic(err)
	}
	go func() { say("nil"); consume(" b") }()
	go func() { say("chan"); consume("b") }()
	var mu sync.Mutex
	mu.Lock()
	go func() { say("mutex"); lockedWait(&mu) }()
	if *cpu {
		go hotMap(200 * time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		pprof.StopCPUProfile()
	}
	n := *events / 40
	var wg sync.WaitGroup
	for _, w := range []func(){
		func() { pingPong(n) }, func() { churn(n) }, func() { locks(n) }, func() { selects(n) },
		func() { sleeps(n / 64) }, func() { files(n / 2) }, func() { pipes(n / 2) },
	} {
		wg.Add(1)
		go func() { defer wg.Done(); w() }()
	}
	wg.Wait()
	more(n)
	if *gc {
		runtime.GC()
	}
	time.Sleep(2 * time.Millisecond)
	if *kill {
		time.Sleep(1500 * time.Millisecond)
		os.Exit(0)
	}
	if *flight {
		time.Sleep(1500 * time.Millisecond)
	}
	stop()
}
