// Command flows parks goroutines on what a map gave them, or on what they stored in one, each by another way through
// the code, and prints which goroutine went which way, from which map.
package main

import (
	"encoding/json"
	"os"
	"sync"

	"mapscope.example/samples/truth"
)

type box struct {
	pad  [3]int
	done chan int
	mu   sync.Mutex
	wg   sync.WaitGroup
}

type pair struct {
	first, second chan int
}

var (
	chans  = map[string]chan int{"a": make(chan int), "out": make(chan int)}
	byID   = map[int]chan int{1: make(chan int)}
	boxes  = map[string]*box{"a": newBox()}
	pairs  = map[string]pair{"a": {make(chan int), make(chan int)}}
	locks  = map[int]*sync.Mutex{1: locked()}
	rw     = map[string]*sync.RWMutex{"a": writeLocked()}
	fields = &holder{}
	other  = make(chan int)
	values sync.Map
	sink   int
)

type holder struct {
	mu    sync.RWMutex
	chans map[string]chan int
}

type Map[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
}

type source interface{ get(k string) chan int }

func newBox() *box {
	b := &box{done: make(chan int)}
	b.mu.Lock()
	b.wg.Add(1)
	return b
}

func locked() *sync.Mutex {
	mu := new(sync.Mutex)
	mu.Lock()
	return mu
}

func writeLocked() *sync.RWMutex {
	mu := new(sync.RWMutex)
	mu.Lock()
	return mu
}

//go:noinline
func use(n int) { sink += n }

//go:noinline
func direct(k string) { <-chans[k] }

//go:noinline
func send(k string) { chans[k] <- 1 }

//go:noinline
func commaOk(k string) {
	ch, ok := chans[k]
	if !ok {
		use(1)
		return
	}
	<-ch
}

//go:noinline
func overCall(k string) {
	ch := chans[k]
	use(len(k))
	<-ch
}

//go:noinline
func wait(ch chan int) { <-ch }

//go:noinline
func parameter(k string) { wait(chans[k]) }

//go:noinline
func goStatement(k string, ids chan int64) { go started(chans[k], ids) }

//go:noinline
func started(ch chan int, ids chan int64) {
	ids <- truth.Goid()
	<-ch
}

//go:noinline
func goClosure(k string, ids chan int64) {
	ch := chans[k]
	go func() {
		ids <- truth.Goid()
		<-ch
	}()
}

//go:noinline
func call(f func()) { f() }

//go:noinline
func capture(k string) {
	ch := chans[k]
	call(func() { <-ch; use(1) })
}

//go:noinline
func (h *holder) get(k string) chan int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.chans[k]
}

//go:noinline
func wrapper(k string) { <-fields.get(k) }

//go:noinline
func (h *holder) find(k string) (chan int, bool) {
	h.mu.RLock()
	ch, ok := h.chans[k]
	h.mu.RUnlock()
	return ch, ok
}

//go:noinline
func wrapperCommaOk(k string) {
	if ch, ok := fields.find(k); ok {
		<-ch
	}
}

//go:noinline
func (m *Map[K, V]) Get(k K) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[k]
}

var generic = &Map[string, chan int]{m: map[string]chan int{"a": make(chan int)}}

//go:noinline
func genericMap(k string) { <-generic.Get(k) }

//go:noinline
func structField(k string) { <-pairs[k].second }

//go:noinline
func pointerField(k string) { <-boxes[k].done }

//go:noinline
func selectCase(k string) {
	select {
	case <-chans[k]:
	case <-other:
	}
}

//go:noinline
func mutex(k int) { locks[k].Lock() }

//go:noinline
func mutexField(k string) { boxes[k].mu.Lock() }

//go:noinline
func waitGroup(k string) { boxes[k].wg.Wait() }

//go:noinline
func readLock(k string) { rw[k].RLock() }

//go:noinline
func loop(k int) {
	for {
		ch := byID[k]
		use(k)
		<-ch
	}
}

//go:noinline
func throughInterface(s source, k string) { <-s.get(k) }

//go:noinline
func syncLoad(k string) {
	v, ok := values.Load(k)
	if ok {
		<-v.(chan int)
	}
}

//go:noinline
func syncLoadOrStore(k string) {
	v, _ := values.LoadOrStore(k, newBox())
	v.(*box).wg.Wait()
}

//go:noinline
func deferred(k string) {
	ch := chans[k]
	defer wait(ch)
	use(1)
}

//go:noinline
func missing(k string) { <-chans[k] }

//go:noinline
func missingInWrapper(k string) { <-fields.get(k) }

//go:noinline
func getOrMake(k string) {
	ch, ok := chans[k]
	if !ok {
		ch = make(chan int)
	}
	<-ch
}

//go:noinline
func stored(k string) {
	ch := make(chan int)
	chans[k] = ch
	<-ch
}

//go:noinline
func storedInSync(k string) {
	b := newBox()
	values.Store(k, b)
	b.wg.Wait()
}

//go:noinline
func (h *holder) register(k string) chan int {
	ch := make(chan int)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chans[k] = ch
	return ch
}

//go:noinline
func storedInWrapper(k string) { <-fields.register(k) }

//go:noinline
func guard(c *sync.Cond, counts map[string]int, k string) {
	c.L.Lock()
	for counts[k] == 0 {
		c.Wait()
	}
}

func main() {
	truth.Start()
	fields.chans = map[string]chan int{"a": make(chan int)}
	values.Store("a", make(chan int))
	values.Store("b", newBox())
	own := func(start func(chan int64), name string) truth.Parked {
		ids := make(chan int64)
		start(ids)
		goid := <-ids
		truth.Settle(goid)
		return truth.Parked{Goid: goid, Name: name}
	}
	cond := sync.NewCond(new(sync.Mutex))
	all := []truth.Parked{
		truth.Park("direct", func() { direct("a") }),
		truth.Park("send", func() { send("out") }),
		truth.Park("commaOk", func() { commaOk("a") }),
		truth.Park("overCall", func() { overCall("a") }),
		truth.Park("parameter", func() { parameter("a") }),
		own(func(ids chan int64) { goStatement("a", ids) }, "goStatement"),
		own(func(ids chan int64) { goClosure("a", ids) }, "goClosure"),
		truth.Park("capture", func() { capture("a") }),
		truth.Park("wrapper", func() { wrapper("a") }),
		truth.Park("wrapperCommaOk", func() { wrapperCommaOk("a") }),
		truth.Park("genericMap", func() { genericMap("a") }),
		truth.Park("structField", func() { structField("a") }),
		truth.Park("pointerField", func() { pointerField("a") }),
		truth.Park("selectCase", func() { selectCase("a") }),
		truth.Park("mutex", func() { mutex(1) }),
		truth.Park("mutexField", func() { mutexField("a") }),
		truth.Park("waitGroup", func() { waitGroup("a") }),
		truth.Park("readLock", func() { readLock("a") }),
		truth.Park("loop", func() { loop(1) }),
		truth.Park("throughInterface", func() { throughInterface(fields, "a") }),
		truth.Park("syncLoad", func() { syncLoad("a") }),
		truth.Park("syncLoadOrStore", func() { syncLoadOrStore("b") }),
		truth.Park("deferred", func() { deferred("a") }),
		truth.Park("missing", func() { missing("a ") }),
		truth.Park("missingInWrapper", func() { missingInWrapper("a ") }),
		truth.Park("getOrMake", func() { getOrMake("A") }),
		truth.Park("stored", func() { stored("s") }),
		truth.Park("storedInSync", func() { storedInSync("s") }),
		truth.Park("storedInWrapper", func() { storedInWrapper("s") }),
		truth.Park("guard", func() { guard(cond, map[string]int{"a": 0}, "a") }),
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"waits": all})
	truth.Ready(truth.Mode())
	cond.Broadcast()
}
