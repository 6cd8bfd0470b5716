// Command leaks parks goroutines for ever by one mistake with map keys, named by its second argument,
// and prints which goroutine waits on what, with the key that it used and the key that is stored. With "sources" as
// third argument it also leaves what an incident leaves: stacks.txt (debug=2) and trace.out in the working directory.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

// Wait is what one goroutine says of itself before it blocks.
type Wait struct {
	Goid   int64  `json:"goid"`
	Reason string `json:"reason"`          // as a traceback of this Go version prints it
	On     string `json:"on,omitempty"`    // address of the channel, mutex, wait group or cond; empty for a nil channel
	Kind   string `json:"kind"`            // nil_chan, chan, mutex, waitgroup, cond
	Map    string `json:"map,omitempty"`   // where the object is stored, if it is
	Key    string `json:"key,omitempty"`   // the key it is stored under
	Asked  string `json:"asked,omitempty"` // the key that was looked up
}

var (
	mu    sync.Mutex
	waits []Wait
)

const each = 8

func goid() int64 {
	buf := make([]byte, 64)
	buf = buf[:runtime.Stack(buf, false)]
	id, _ := strconv.ParseInt(strings.Fields(string(buf))[1], 10, 64)
	return id
}

func say(w Wait) {
	w.Goid = goid()
	mu.Lock()
	waits = append(waits, w)
	mu.Unlock()
}

func at[T any](p *T) string { return fmt.Sprintf("%#x", uintptr(unsafe.Pointer(p))) }

func chanAt[T any](c chan T) string { return fmt.Sprintf("%#x", *(*uintptr)(unsafe.Pointer(&c))) }

// trailing space

type registry struct {
	mu sync.Mutex
	m  map[string]chan string
}

var reg = &registry{m: map[string]chan string{}}

func (r *registry) register(id string) chan string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan string)
	r.m[id] = ch
	return ch
}

func (r *registry) reply(id, value string) {
	r.mu.Lock()
	ch := r.m[id]
	r.mu.Unlock()
	say(Wait{Kind: "nil_chan", Reason: "chan send (nil chan)", Asked: id})
	ch <- value
}

func trailingSpace() {
	for i := 0; i < each; i++ {
		id := fmt.Sprintf("order-%c ", 'A'+i)
		ready := make(chan bool)
		go func() {
			ch := reg.register(id)
			say(Wait{Kind: "chan", Reason: "chan receive", On: chanAt(ch), Map: "main.reg.m", Key: id})
			close(ready)
			fmt.Fprintln(os.Stderr, <-ch)
		}()
		<-ready
		go reg.reply(strings.TrimSpace(id), "done")
	}
}

// NFD against NFC

var subs = map[string]chan int{"caf\u00e9": make(chan int), "th\u00e9": make(chan int)}

func consume(topic string) {
	ch := subs[topic]
	say(Wait{Kind: "nil_chan", Reason: "chan receive (nil chan)", Asked: topic})
	<-ch
}

func unicodeForm() {
	for i := 0; i < each; i++ {
		go consume("cafe\u0301")
	}
}

// int against int64 in an interface

var done = map[any]chan struct{}{}

func await(k any) {
	say(Wait{Kind: "nil_chan", Reason: "chan receive (nil chan)", Asked: fmt.Sprintf("%T(%v)", k, k)})
	<-done[k]
}

func dynamicType() {
	done[int(7)] = make(chan struct{})
	for i := 0; i < each; i++ {
		go await(int64(7))
	}
}

// pointer keys

type ident struct{ shard, n int }

var answers = map[*ident]chan int{}

func ask(id *ident) {
	ch, ok := answers[id]
	if !ok {
		ch = make(chan int)
	}
	say(Wait{Kind: "chan", Reason: "chan receive", On: chanAt(ch), Asked: fmt.Sprint(*id)})
	<-ch
}

func pointerKey() {
	for i := 0; i < each; i++ {
		answers[&ident{1, i}] = make(chan int)
	}
	for i := 0; i < each; i++ {
		go ask(&ident{1, i})
	}
}

// NaN keys

var byScore = map[float64]chan int{}

func nanKey() {
	for i := 0; i < each; i++ {
		ready := make(chan bool)
		go func() {
			c := make(chan int)
			byScore[math.NaN()] = c
			delete(byScore, math.NaN())
			say(Wait{Kind: "chan", Reason: "chan receive", On: chanAt(c), Map: "main.byScore", Key: "NaN"})
			close(ready)
			<-c
		}()
		<-ready
	}
}

// struct key with a pointer

type gateKey struct {
	name string
	zone *string
}

var gates = map[gateKey]chan int{}

func enter(k gateKey) {
	say(Wait{Kind: "nil_chan", Reason: "chan receive (nil chan)", Asked: k.name + "/" + *k.zone})
	select {
	case <-gates[k]:
	}
}

func structKey() {
	zone := "eu"
	gates[gateKey{"north", &zone}] = make(chan int)
	for i := 0; i < each; i++ {
		other := "eu"
		go enter(gateKey{"north", &other})
	}
}

// an explicit zero taken for "not loaded"

type limiter struct {
	mu    sync.Mutex
	cond  *sync.Cond
	quota map[string]int
}

var limits = &limiter{quota: map[string]int{"bob": 0, "eve": 5}}

func (l *limiter) wait(user string) {
	l.mu.Lock()
	for l.quota[user] == 0 {
		say(Wait{Kind: "cond", Reason: "sync.Cond.Wait", On: at(l.cond), Asked: user})
		l.cond.Wait()
	}
	l.mu.Unlock()
}

func explicitZero() {
	limits.cond = sync.NewCond(&limits.mu)
	for i := 0; i < each; i++ {
		go limits.wait("bob")
	}
}

// a typed key in sync.Map

type userID string

type session struct {
	name string
	wg   sync.WaitGroup
}

var sessions sync.Map

func login(user string) {
	s := &session{name: user}
	s.wg.Add(1)
	sessions.Store(userID(user), s)
	say(Wait{Kind: "waitgroup", On: at(&s.wg), Map: "main.sessions", Key: user, Asked: user})
	s.wg.Wait()
}

func logout(user string) {
	if s, ok := sessions.Load(user); ok {
		s.(*session).wg.Done()
	}
}

func typedKey() {
	for i := 0; i < each; i++ {
		user := fmt.Sprint("u", i)
		go login(user)
		logout(user)
	}
}

// a keyed mutex unlocked under another key

type keyed struct {
	mu sync.Mutex
	m  map[string]*sync.Mutex
}

var locks = keyed{m: map[string]*sync.Mutex{}}

func (k *keyed) get(name string) *sync.Mutex {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m[name] == nil {
		k.m[name] = new(sync.Mutex)
	}
	return k.m[name]
}

func work(id int, name string) {
	lk := locks.get(fmt.Sprintf("%d_%s", id, name))
	say(Wait{Kind: "mutex", On: at(lk), Map: "main.locks.m", Key: fmt.Sprintf("%d_%s", id, name)})
	lk.Lock()
	if name == "" {
		name = "default"
	}
	other := locks.get(fmt.Sprintf("%d_%s", id, name))
	other.TryLock() // of a mutex that is not locked Unlock ends the program
	other.Unlock()
}

// keyedMutex lets one goroutine through, which leaves 42_ locked behind it.
func keyedMutex() {
	first := make(chan bool)
	go func() { work(42, ""); close(first) }()
	<-first
	mu.Lock()
	waits = nil
	mu.Unlock()
	for i := 0; i < each; i++ {
		go work(42, "")
	}
}

var cases = map[string]struct {
	run  func()
	want int
}{
	"trailing-space": {trailingSpace, 2 * each},
	"unicode-form":   {unicodeForm, each},
	"dynamic-type":   {dynamicType, each},
	"pointer-key":    {pointerKey, each},
	"nan-key":        {nanKey, each},
	"struct-key":     {structKey, each},
	"explicit-zero":  {explicitZero, each},
	"typed-key":      {typedKey, each},
	"keyed-mutex":    {keyedMutex, each},
}

// record traces until the function that it returns is called, which takes the profile first: stopping a trace and
// reading stacks disturb nothing, a profile of leaks or a core would. It then prints both clocks.
func record() func() {
	runtime.GC()
	file := create("trace.out")
	check(trace.Start(file))
	return func() {
		stacks := create("stacks.txt")
		check(pprof.Lookup("goroutine").WriteTo(stacks, 2))
		check(stacks.Close())
		trace.Stop()
		check(file.Close())
		json.NewEncoder(os.Stdout).Encode(map[string]any{"mono": monotonic(), "wall": time.Now().UnixNano()})
	}
}

func create(name string) *os.File {
	file, err := os.Create(name)
	check(err)
	return file
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// monotonic asks the kernel, not the runtime.
func monotonic() int64 {
	var at syscall.Timespec
	const clockMonotonic = 1
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

func main() {
	truth.Start()
	name := "trailing-space"
	if len(os.Args) > 2 {
		name = os.Args[2]
	}
	c, ok := cases[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such case:", name)
		os.Exit(2)
	}
	stop := func() {}
	if len(os.Args) > 3 && os.Args[3] == "sources" {
		stop = record()
	}
	c.run()
	for {
		mu.Lock()
		n := len(waits)
		mu.Unlock()
		if n >= c.want {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // the last step from saying so to being parked
	json.NewEncoder(os.Stdout).Encode(map[string]any{"case": name, "waits": waits})
	stop()
	truth.Ready(truth.Mode())
}
