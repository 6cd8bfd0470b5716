// Command unrelated parks goroutines that use a map and then wait for something that the map did not give them: no
// answer may say that it did. It prints which goroutine is in which function.
package main

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"mapscope.example/samples/truth"
)

type node struct {
	done chan int
	mu   sync.Mutex
	wg   sync.WaitGroup
	big  [20]int
	last chan int
}

type point struct {
	x, y int
	name string
}

type big struct{ words [200]int }

var (
	counts            = map[int]string{7: "seven"}
	names             = map[string]int{"order-1": 1}
	chans             = map[string]chan int{"order-1": make(chan int)}
	nodes             = map[string]*node{"order-1": newNode()}
	flags             = map[uint8]bool{1: true}
	points            = map[point]int{{1, 2, "a"}: 3}
	boxes             = map[any]string{1: "one"}
	bigs              = map[int]big{}
	indices           = map[string]int{"order-1": 1}
	sessions, replies sync.Map

	quit     = make(chan int)
	results  = make(chan int)
	table    = [4]chan int{make(chan int), make(chan int), make(chan int), make(chan int)}
	words    = make(chan string)
	sent     = make(chan chan int)
	lock     sync.Mutex
	shared   sync.RWMutex
	group    sync.WaitGroup
	cond     = sync.NewCond(&condLock)
	condLock sync.Mutex
	once     sync.Once
	sink     int
	kept     chan int
)

func newNode() *node { return &node{done: make(chan int), last: make(chan int)} }

//go:noinline
func use(n int) { sink += n }

//go:noinline
func assignThenGlobal(k int) { counts[k] = "x"; <-quit }

//go:noinline
func readThenGlobal(k string) { sink = names[k]; <-quit }

//go:noinline
func readThenParam(k string, c chan int) {
	v := names[k]
	<-c
	sink = v
}

//go:noinline
func readThenSendValue(k string) { results <- names[k] }

//go:noinline
func readThenSendChannel(k string) { sent <- chans[k] }

//go:noinline
func deleteThenGlobal(k string) { delete(names, k); <-quit }

//go:noinline
func readThenLock(k string) {
	if names[k] == 0 {
		lock.Lock()
	}
}

//go:noinline
func commaOkThenGlobal(k string) {
	if _, ok := names[k]; !ok {
		<-quit
	}
}

//go:noinline
func readThenWaitGroup(k string) {
	if nodes[k] == nil {
		group.Wait()
	}
}

//go:noinline
func readThenCond(k string) {
	condLock.Lock()
	for names[k] == 0 {
		cond.Wait()
	}
}

//go:noinline
func readThenReadLock(k string) int {
	v := names[k]
	shared.RLock()
	return v
}

//go:noinline
func readThenWriteLock(k string) int {
	v := names[k]
	shared.Lock()
	return v
}

//go:noinline
func readThenSelect(k string, c, d chan int) {
	v := names[k]
	select {
	case <-c:
	case d <- v:
	case <-quit:
	}
}

//go:noinline
func channelAsSelectValue(k string, d chan chan int) {
	select {
	case d <- chans[k]:
	case <-quit:
	}
}

//go:noinline
func rangeThenGlobal() {
	for _, v := range names {
		use(v)
	}
	<-quit
}

//go:noinline
func rangeThenParam(c chan int) {
	for _, ch := range chans {
		kept = ch
		<-c
	}
}

//go:noinline
func lenThenParam(c chan int) {
	if len(chans) > 0 {
		<-c
	}
}

//go:noinline
func clearThenGlobal(m map[string]chan int) {
	for k := range m {
		delete(m, k)
	}
	<-quit
}

//go:noinline
func loadThenGlobal(k string) {
	v, _ := sessions.Load(k)
	if v == nil {
		<-quit
	}
}

//go:noinline
func storeThenGlobal(k string) {
	sessions.Store(k, chans["order-1"])
	<-quit
}

//go:noinline
func loadOrStoreThenParam(k string, c chan int) {
	_, loaded := replies.LoadOrStore(k, 1)
	if !loaded {
		<-c
	}
}

//go:noinline
func loadAndDeleteThenLock(k string) {
	replies.LoadAndDelete(k)
	lock.Lock()
}

//go:noinline
func rangeSyncThenGlobal() {
	sessions.Range(func(k, v any) bool { <-quit; return true })
}

//go:noinline
func sleepAfterRead(k string) {
	if chans[k] == nil {
		time.Sleep(time.Hour)
	}
}

//go:noinline
func timerAfterRead(k string) {
	if chans[k] == nil {
		<-time.After(time.Hour)
	}
}

//go:noinline
func contextAfterRead(ctx context.Context, k string) int {
	v := names[k]
	<-ctx.Done()
	return v
}

//go:noinline
func closureAfterRead(k string) {
	v := names[k]
	func() {
		defer use(v)
		<-quit
	}()
}

//go:noinline
func capturedOther(k string, c chan int) {
	v := names[k]
	wait := func() { <-c; use(v) }
	call(wait)
}

//go:noinline
func call(f func()) { f() }

//go:noinline
func deferredWait(k string) {
	defer func() { <-quit }()
	use(names[k])
}

//go:noinline
func waitOtherMap(k string) {
	ch := chans["order-1"]
	use(names[k])
	kept = chans[k]
	drain(k, ch)
}

//go:noinline
func drain(k string, ch chan int) {
	use(names[k])
	<-table[1]
	<-ch
}

//go:noinline
func indexedByValue(k string) { <-table[indices[k]&3] }

//go:noinline
func keyOfAnother(k string, all map[int]string) {
	use(len(all[names[k]]))
	<-quit
}

//go:noinline
func structKeyThenParam(p point, c chan int) {
	use(points[p])
	<-c
}

//go:noinline
func interfaceKeyThenField(k any, n *node) {
	use(len(boxes[k]))
	<-n.done
}

//go:noinline
func fatThenLock(k int, n *node) {
	use(bigs[k].words[3])
	n.mu.Lock()
}

//go:noinline
func overwritten(k string, c chan int) {
	ch := chans[k]
	if ch == nil {
		use(1)
	}
	ch = c
	<-ch
}

//go:noinline
func overwrittenByClosure(k string, c chan int) {
	ch := chans[k]
	func() { set(&ch, c) }()
	<-ch
}

//go:noinline
func set(into *chan int, c chan int) { *into = c }

//go:noinline
func overwrittenByPointer(k string, c chan int) {
	n := node{last: chans[k]}
	reset(&n, c)
	<-n.last
}

//go:noinline
func reset(n *node, c chan int) { n.last = c }

//go:noinline
func overwrittenByDefer(k string, c chan int) {
	ch := chans[k]
	swap := func() { ch = c }
	call(swap)
	<-ch
}

//go:noinline
func assignChannelThenOther(k string, m map[string]chan int, c chan int) {
	m[k] = make(chan int)
	<-c
}

//go:noinline
func assignThenSend(k string, m map[string]chan int, c chan chan int) {
	made := make(chan int)
	m[k] = made
	c <- made
}

//go:noinline
func boolThenGlobal(k uint8) {
	for !flags[k] {
		<-quit
	}
}

//go:noinline
func onceAfterRead(k string) int {
	v := names[k]
	once.Do(func() { <-quit })
	return v
}

//go:noinline
func waiter(c chan int) { <-c }

//go:noinline
func startedWithOther(k string, c chan int) {
	use(names[k])
	waiter(c)
}

//go:noinline
func wrapped(k string) chan int {
	if names[k] == 0 {
		return quit
	}
	return table[0]
}

//go:noinline
func resultOfOtherUse(k string) { <-wrapped(k) }

//go:noinline
func noisy(k string) (chan int, chan int) { return chans[k], quit }

//go:noinline
func secondResult(k string) {
	first, second := noisy(k)
	kept = first
	<-second
}

//go:noinline
func storedElsewhere(k string, n *node) {
	n.done = chans[k]
	kept = n.done
	<-n.last
}

func main() {
	truth.Start()
	lock.Lock()
	shared.Lock()
	group.Add(1)
	sessions.Store("order-1", 1)
	bg, cancel := context.WithCancel(context.Background())
	c, d, e := make(chan int), make(chan int), make(chan chan int)
	n, m := newNode(), newNode()
	n.mu.Lock()
	local := map[string]chan int{}
	// Each with the key that the map holds, or one like it.
	const near, there = "order-1 ", "order-1"
	all := []truth.Parked{
		truth.Park("assignThenGlobal", func() { assignThenGlobal(9) }),
		truth.Park("readThenGlobal", func() { readThenGlobal(near) }),
		truth.Park("readThenParam", func() { readThenParam(near, c) }),
		truth.Park("readThenSendValue", func() { readThenSendValue(near) }),
		truth.Park("readThenSendChannel", func() { readThenSendChannel(near) }),
		truth.Park("readThenLock", func() { readThenLock(near) }),
		truth.Park("deleteThenGlobal", func() { deleteThenGlobal("order-2") }),
		truth.Park("commaOkThenGlobal", func() { commaOkThenGlobal(near) }),
		truth.Park("readThenWaitGroup", func() { readThenWaitGroup(near) }),
		truth.Park("readThenCond", func() { readThenCond(near) }),
		truth.Park("readThenReadLock", func() { readThenReadLock(near) }),
		truth.Park("readThenWriteLock", func() { readThenWriteLock(near) }),
		truth.Park("readThenSelect", func() { readThenSelect(near, c, d) }),
		truth.Park("channelAsSelectValue", func() { channelAsSelectValue(there, e) }),
		truth.Park("rangeThenGlobal", func() { rangeThenGlobal() }),
		truth.Park("rangeThenParam", func() { rangeThenParam(c) }),
		truth.Park("lenThenParam", func() { lenThenParam(c) }),
		truth.Park("clearThenGlobal", func() { clearThenGlobal(map[string]chan int{"a": quit}) }),
		truth.Park("loadThenGlobal", func() { loadThenGlobal(near) }),
		truth.Park("storeThenGlobal", func() { storeThenGlobal(near) }),
		truth.Park("loadOrStoreThenParam", func() { loadOrStoreThenParam(near, c) }),
		truth.Park("loadAndDeleteThenLock", func() { loadAndDeleteThenLock(near) }),
		truth.Park("rangeSyncThenGlobal", func() { rangeSyncThenGlobal() }),
		truth.Park("sleepAfterRead", func() { sleepAfterRead(near) }),
		truth.Park("timerAfterRead", func() { timerAfterRead(near) }),
		truth.Park("contextAfterRead", func() { contextAfterRead(bg, near) }),
		truth.Park("closureAfterRead", func() { closureAfterRead(near) }),
		truth.Park("capturedOther", func() { capturedOther(near, c) }),
		truth.Park("deferredWait", func() { deferredWait(near) }),
		truth.Park("waitOtherMap", func() { waitOtherMap(near) }),
		truth.Park("indexedByValue", func() { indexedByValue(there) }),
		truth.Park("keyOfAnother", func() { keyOfAnother(there, counts) }),
		truth.Park("structKeyThenParam", func() { structKeyThenParam(point{1, 2, "a "}, c) }),
		truth.Park("interfaceKeyThenField", func() { interfaceKeyThenField(int64(1), n) }),
		truth.Park("fatThenLock", func() { fatThenLock(4, n) }),
		truth.Park("overwritten", func() { overwritten(near, c) }),
		truth.Park("overwrittenByClosure", func() { overwrittenByClosure(there, c) }),
		truth.Park("overwrittenByPointer", func() { overwrittenByPointer(there, c) }),
		truth.Park("overwrittenByDefer", func() { overwrittenByDefer(there, c) }),
		truth.Park("assignChannelThenOther", func() { assignChannelThenOther("a", local, c) }),
		truth.Park("assignThenSend", func() { assignThenSend("b", local, e) }),
		truth.Park("boolThenGlobal", func() { boolThenGlobal(2) }),
		truth.Park("onceAfterRead", func() { onceAfterRead(near) }),
		truth.Park("startedWithOther", func() { startedWithOther(near, c) }),
		truth.Park("resultOfOtherUse", func() { resultOfOtherUse(near) }),
		truth.Park("secondResult", func() { secondResult(near) }),
		truth.Park("storedElsewhere", func() { storedElsewhere(near, m) }),
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"waits": all})
	truth.Ready(truth.Mode())
	cancel()
	<-c
	<-d
	<-e
	n.mu.Unlock()
	m.last <- 1
	for _, made := range local {
		made <- 1
	}
	<-quit
	<-results
	<-words
	<-sent
	lock.Unlock()
	shared.Unlock()
	group.Done()
	cond.Broadcast()
}
