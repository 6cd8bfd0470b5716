// Command healthy waits in all the ways in which sound programs wait: nothing in it is stuck. It prints the goroutines
// of each kind.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mapscope.example/samples/truth"
)

var (
	told  sync.Mutex
	kinds = map[string][]int64{}
)

func goid() int64 {
	buf := make([]byte, 64)
	buf = buf[:runtime.Stack(buf, false)]
	id, _ := strconv.ParseInt(strings.Fields(string(buf))[1], 10, 64)
	return id
}

// start runs `do` in so many goroutines, as the kind named.
func start(kind string, n int, do func(i int)) {
	var ready sync.WaitGroup
	ready.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			told.Lock()
			kinds[kind] = append(kinds[kind], goid())
			told.Unlock()
			ready.Done()
			do(i)
		}(i)
	}
	ready.Wait()
}

type job struct {
	id   int
	done chan error
}

var (
	jobs     = make(chan job)
	buffered = make(chan job, 64)
	results  = map[int]error{}
	lock     sync.Mutex
)

func worker(from <-chan job) {
	for j := range from {
		lock.Lock()
		results[j.id] = nil
		lock.Unlock()
		j.done <- nil
	}
}

func pools() {
	start("pool", 16, func(int) { worker(jobs) })
	start("buffered pool", 120, func(int) { worker(buffered) })
	for i := 0; i < 50; i++ {
		done := make(chan error)
		jobs <- job{i, done}
		<-done
	}
}

func servers() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	start("server", 1, func(int) {
		http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	})
	for i := 0; i < 5; i++ { // connections kept alive
		if answer, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + listener.Addr().String()); err == nil {
			answer.Body.Close()
		}
	}
	start("reader", 3, func(int) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err == nil {
			conn.Read(make([]byte, 1))
		}
	})
}

func timers(ctx context.Context) {
	start("ticker", 10, func(int) {
		ticker := time.NewTicker(time.Minute)
		for range ticker.C {
		}
	})
	start("ticker select", 10, func(int) {
		ticker := time.NewTicker(time.Minute)
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	start("sleep", 12, func(int) { time.Sleep(time.Hour) })
	start("after", 3, func(int) { <-time.After(time.Hour) })
}

func signals() {
	start("signal", 1, func(int) {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
		}
	})
}

// group is what errgroup.Group is.
type group struct {
	wg   sync.WaitGroup
	sem  chan struct{}
	once sync.Once
	err  error
}

func (g *group) Go(f func() error) {
	g.sem <- struct{}{}
	g.wg.Add(1)
	go func() {
		defer func() { <-g.sem; g.wg.Done() }()
		if err := f(); err != nil {
			g.once.Do(func() { g.err = err })
		}
	}()
}

func groups() {
	start("group", 2, func(int) {
		g := &group{sem: make(chan struct{}, 4)}
		for i := 0; i < 8; i++ { // the fifth waits for room
			g.Go(func() error { time.Sleep(time.Hour); return errors.New("late") })
		}
		g.wg.Wait()
	})
	start("group wait", 2, func(int) {
		g := &group{sem: make(chan struct{}, 8)}
		for i := 0; i < 8; i++ {
			g.Go(func() error { time.Sleep(time.Hour); return nil })
		}
		g.wg.Wait()
	})
}

type event struct{ topic string }

// hub has a subscriber behind each key.
type hub struct {
	mu   sync.Mutex
	subs map[string]chan event
}

func (h *hub) subscribe(topic string) chan event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[topic] == nil {
		h.subs[topic] = make(chan event, 4)
	}
	return h.subs[topic]
}

var events = &hub{subs: map[string]chan event{}}

func loops(ctx context.Context) {
	quit := make(chan struct{})
	start("select loop", 20, func(i int) {
		mine := events.subscribe(fmt.Sprint("topic-", i))
		for {
			select {
			case <-mine:
			case <-quit:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	start("subscriber", 130, func(i int) {
		for e := range events.subscribe(fmt.Sprint("user-", i)) {
			_ = e
		}
	})
}

type queue struct {
	mu    sync.Mutex
	more  *sync.Cond
	items []event
	seen  map[string]int
}

func (q *queue) take() event {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 {
		q.more.Wait()
	}
	first := q.items[0]
	q.items = q.items[1:]
	q.seen[first.topic]++
	return first
}

func conds() {
	q := &queue{seen: map[string]int{"a": 1}}
	q.more = sync.NewCond(&q.mu)
	start("cond", 12, func(int) {
		for {
			q.take()
		}
	})
	start("cond producer", 1, func(int) {
		time.Sleep(time.Hour)
		q.mu.Lock()
		q.items = append(q.items, event{"late"})
		q.mu.Unlock()
		q.more.Signal()
	})
}

type gate struct {
	mu    sync.Mutex
	moved *sync.Cond
	open  map[string]bool
}

func (g *gate) wait(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.open[name] {
		g.moved.Wait()
	}
}

// gates waits for a stored false to become true, which another goroutine will see to.
func gates() {
	g := &gate{open: map[string]bool{"north": false, "south": true}}
	g.moved = sync.NewCond(&g.mu)
	start("gate", 12, func(int) { g.wait("north") })
	start("gate keeper", 1, func(int) {
		time.Sleep(time.Hour)
		g.mu.Lock()
		g.open["north"] = true
		g.mu.Unlock()
		g.moved.Broadcast()
	})
}

var mailboxes = map[string]chan event{"alpha": make(chan event), "alpha ": make(chan event), "Alpha": make(chan event)}

// lookalikes receives behind keys that are easily taken for each other; those who send have them right.
func lookalikes() {
	start("mailbox", 12, func(i int) { <-mailboxes[[]string{"alpha", "alpha ", "Alpha"}[i%3]] })
	start("postman", 3, func(i int) {
		to := mailboxes[[]string{"alpha", "alpha ", "Alpha"}[i]]
		for {
			time.Sleep(time.Hour)
			to <- event{"mail"}
		}
	})
	start("rounds", 1, func(int) {
		time.Sleep(time.Hour)
		for _, box := range mailboxes {
			box <- event{"round"}
		}
	})
}

type requestID string

var requests sync.Map

// typed waits for answers under keys of a type of its own, which those who answer use too.
func typed() {
	start("typed call", 12, func(i int) {
		ch := make(chan string, 1)
		requests.Store(requestID(fmt.Sprint("r", i)), ch)
		<-ch
	})
	start("typed answerer", 1, func(int) {
		time.Sleep(time.Hour)
		for i := 0; i < 12; i++ {
			if ch, ok := requests.Load(requestID(fmt.Sprint("r", i))); ok {
				ch.(chan string) <- "done"
			}
		}
	})
}

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

// keyedMutex: one works under a key, others wait for it to end.
func keyedMutex() {
	for _, name := range []string{"user:1", "user:2", "user:10", "order-7", "42_", "42_default"} {
		name := name
		locks.get(name).Lock()
		start("holder", 1, func(int) {
			time.Sleep(time.Hour)
			locks.get(name).Unlock()
		})
	}
	names := []string{"user:1", "user:2", "user:10", "42_", "42_default"}
	start("keyed mutex", 20, func(i int) {
		lk := locks.get(names[i%len(names)])
		lk.Lock()
		lk.Unlock()
	})
}

var pending = struct {
	sync.Mutex
	m map[int]chan string
}{m: map[int]chan string{}}

// calls waits for answers that are on their way, each under its number.
func calls() {
	start("call", 12, func(i int) {
		ch := make(chan string, 1)
		pending.Lock()
		pending.m[i] = ch
		pending.Unlock()
		<-ch
	})
	start("answerer", 1, func(int) {
		time.Sleep(time.Hour)
		for i := range pending.m {
			pending.m[i] <- "done"
		}
	})
}

func main() {
	truth.Start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pools()
	servers()
	timers(ctx)
	signals()
	groups()
	loops(ctx)
	conds()
	keyedMutex()
	calls()
	gates()
	lookalikes()
	typed()
	time.Sleep(300 * time.Millisecond) // the last step to being parked
	json.NewEncoder(os.Stdout).Encode(map[string]any{"kinds": kinds})
	truth.Ready(truth.Mode())
}
