// Program profiles blocks goroutines in known ways, says on standard output which one waits where, and writes every
// form of goroutine profile into a directory, or crashes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"
)

// truth is what a goroutine knows about itself.
type truth struct {
	Goid    uint64            `json:"goid"`
	Func    string            `json:"func"`
	Reasons []string          `json:"reasons"`
	Locked  bool              `json:"locked"`
	Labels  map[string]string `json:"labels"`
	Leaked  bool              `json:"leaked"`
	Depth   int               `json:"depth"`
}

var (
	lock   sync.Mutex
	truths []truth
	ready  sync.WaitGroup
)

func goid() (id uint64) {
	var buf [64]byte
	fmt.Sscanf(string(buf[:runtime.Stack(buf[:], false)]), "goroutine %d ", &id)
	return id
}

func say(t truth) {
	t.Goid = goid()
	t.Func = "main." + t.Func
	lock.Lock()
	truths = append(truths, t)
	lock.Unlock()
	ready.Done()
}

var (
	subs     = map[string]chan string{}
	held     sync.Mutex
	heldRW   sync.RWMutex
	cond     = sync.NewCond(&sync.Mutex{})
	group    sync.WaitGroup
	unsent   = make(chan int)
	unread   = make(chan int)
	deepChan = make(chan int)
)

//go:noinline
func missedReceive(topic string) {
	say(truth{Func: "missedReceive", Reasons: []string{"chan receive (nil chan)"}, Leaked: true})
	ch := subs[topic]
	<-ch
}

//go:noinline
func missedSend(topic string) {
	say(truth{Func: "missedSend", Reasons: []string{"chan send (nil chan)"}, Leaked: true})
	subs[topic] <- topic
}

//go:noinline
func receive() {
	say(truth{Func: "receive", Reasons: []string{"chan receive"}})
	<-unsent
}

//go:noinline
func send(v int) {
	say(truth{Func: "send", Reasons: []string{"chan send"}})
	unread <- v
}

//go:noinline
func selectTwo() {
	say(truth{Func: "selectTwo", Reasons: []string{"select"}})
	select {
	case <-unsent:
	case <-deepChan:
	}
}

//go:noinline
func selectNone() {
	say(truth{Func: "selectNone", Reasons: []string{"select (no cases)"}, Leaked: true})
	select {}
}

// lockReasons is what a goroutine that waits for a lock is said to wait for: Go 1.19 knew only semaphores.
func lockReasons(name string) []string {
	if strings.HasPrefix(runtime.Version(), "go1.19") {
		return []string{"semacquire"}
	}
	return []string{name}
}

//go:noinline
func lockMutex() {
	say(truth{Func: "lockMutex", Reasons: lockReasons("sync.Mutex.Lock")})
	held.Lock()
}

//go:noinline
func lockRead() {
	say(truth{Func: "lockRead", Reasons: lockReasons("sync.RWMutex.RLock")})
	heldRW.RLock()
}

//go:noinline
func waitCond() {
	say(truth{Func: "waitCond", Reasons: []string{"sync.Cond.Wait"}})
	cond.L.Lock()
	cond.Wait()
}

//go:noinline
func waitGroup() {
	say(truth{Func: "waitGroup", Reasons: []string{"semacquire", "sync.WaitGroup.Wait"}})
	group.Wait()
}

//go:noinline
func sleepLong() {
	say(truth{Func: "sleepLong", Reasons: []string{"sleep"}})
	time.Sleep(time.Hour)
}

//go:noinline
func lockedToThread() {
	runtime.LockOSThread()
	say(truth{Func: "lockedToThread", Reasons: []string{"chan receive"}, Locked: true})
	<-unsent
}

//go:noinline
func deep(n int) {
	if n == 0 {
		say(truth{Func: "deep", Reasons: []string{"chan receive"}, Depth: 151})
		<-deepChan
		return
	}
	deep(n - 1)
	runtime.KeepAlive(n)
}

//go:noinline
func generic[T any](v T) {
	say(truth{Func: "generic[...]", Reasons: []string{"chan receive"}})
	<-unsent
	runtime.KeepAlive(v)
}

type server struct{ name string }

//go:noinline
func (s *server) serve(req string) {
	labels := map[string]string{"req": "r \"1\": " + req, "k": "b"}
	set := pprof.Labels("req", labels["req"], "k", labels["k"])
	pprof.Do(context.Background(), set, func(context.Context) {
		say(truth{Func: "(*server).serve.func1", Reasons: []string{"chan receive (nil chan)"}, Labels: labels, Leaked: true})
		<-subs[req]
	})
}

func start(n int, f func()) {
	for i := 0; i < n; i++ {
		ready.Add(1)
		go f()
	}
}

func writeProfile(dir, name string, debug int) {
	f, err := os.Create(fmt.Sprintf("%s/%s-%d", dir, name, debug))
	if err == nil {
		err = pprof.Lookup(name).WriteTo(f, debug)
	}
	if err != nil {
		panic(err)
	}
	f.Close()
}

func main() {
	held.Lock()
	heldRW.Lock()
	group.Add(1)
	start(8, func() { missedReceive("a") })
	start(3, func() { missedSend("b") })
	start(4, receive)
	start(2, func() { send(7) })
	start(5, selectTwo)
	start(1, selectNone)
	start(3, lockMutex)
	start(2, lockRead)
	start(2, waitCond)
	start(2, waitGroup)
	start(2, sleepLong)
	start(1, lockedToThread)
	start(2, func() { deep(150) })
	start(2, func() { generic("x") })
	start(3, func() { (&server{"s"}).serve("é\n") })
	ready.Wait()
	for runtime.Gosched(); ; time.Sleep(10 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		if strings.Count(stacks, "[running") == 1 && !strings.Contains(stacks, "[runnable") {
			break
		}
	}
	json.NewEncoder(os.Stdout).Encode(truths)
	switch how := os.Args[1]; how {
	case "panic":
		var m map[string]int
		m["x"] = 1
	case "quit":
		syscall.Kill(os.Getpid(), syscall.SIGQUIT)
		select {}
	case "abort":
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	default:
		for debug := 2; debug >= 0; debug-- {
			writeProfile(how, "goroutine", debug)
		}
		if pprof.Lookup("goroutineleak") != nil {
			for debug := 2; debug >= 0; debug-- {
				writeProfile(how, "goroutineleak", debug)
			}
		}
		runtime.KeepAlive([]any{&held, &heldRW, cond, &group, unsent, unread, deepChan})
	}
}
