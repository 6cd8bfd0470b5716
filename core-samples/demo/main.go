// Command demo is a small order service as one meets it in the debugger: caches, registries, workers
// that wait for replies on channels found in a map. One worker looks its channel up by a key that
// another wrote with a trailing space, so it waits for ever on a nil channel. With "sources" as second argument it
// also leaves stacks.txt (debug=2) and trace.out in the working directory, as one would take them in an incident.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"sync"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

type Order struct {
	ID       int64
	Customer string
	Items    []Item
	Total    float64
	Placed   time.Time
	note     string
}

type Item struct {
	SKU   string
	Count uint16
}

type SessionKey struct {
	User   string
	Device uint32
}

type Service struct {
	name     string
	orders   map[int64]*Order
	sessions map[SessionKey]time.Time
	stock    map[string]int
	mu       sync.Mutex
}

type Status uint8

// M0 is the plainest map there is.
var M0 = map[string]int{"one": 1, "two": 2, "three": 3}

var (
	cache   map[string]*Order
	status  map[int64]Status
	replies map[string]chan string
	service = &Service{name: "orders"}
	live    sync.Map
)

const customers = 7

func main() {
	truth.Start()
	service.fill()
	fillStatus()
	live.Store("requests", int64(1024))
	live.Store("healthy", true)
	live.Store(42, "answer")
	live.Delete("healthy")
	wantLive := []truth.Entry{{Key: "requests", Elem: int64(1024)}, {Key: 42, Elem: "answer"}}
	stop := func() {}
	if len(os.Args) > 2 && os.Args[2] == "sources" {
		stop = record()
	}
	startWorkers()
	report(wantLive)
	stop()
	truth.Ready(truth.Mode())
}

// record traces until the function that it returns is called, which takes the profile first.
func record() func() {
	runtime.GC()
	file := must(os.Create("trace.out"))
	must(0, trace.Start(file))
	return func() {
		stacks := must(os.Create("stacks.txt"))
		must(0, pprof.Lookup("goroutine").WriteTo(stacks, 2))
		must(0, stacks.Close())
		trace.Stop()
		must(0, file.Close())
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func (s *Service) fill() {
	s.orders = make(map[int64]*Order)
	s.sessions = make(map[SessionKey]time.Time)
	s.stock = map[string]int{"apple": 12, "pear": 0, "plum": -3}
	cache = make(map[string]*Order)
	placed := time.Date(2024, 3, 1, 9, 0, 0, 0, time.UTC)
	for i := int64(1); i <= 400; i++ {
		o := &Order{ID: 1000 + i, Customer: customer(i), Total: float64(i) * 2.5, Placed: placed.Add(time.Duration(i) * time.Minute)}
		for j := int64(0); j < i%3; j++ {
			o.Items = append(o.Items, Item{SKU: fmt.Sprintf("sku-%d", i*j), Count: uint16(j + 1)})
		}
		s.orders[o.ID] = o
		if i%4 == 0 {
			cache[fmt.Sprintf("order:%d", o.ID)] = o
		}
	}
	for i := int64(1); i <= 60; i++ {
		if i%5 == 0 {
			delete(s.orders, 1000+i)
		}
	}
	cache["order:gone"] = nil
	for i := int64(0); i < customers; i++ {
		s.sessions[SessionKey{customer(i), uint32(i)}] = placed
	}
}

// fillStatus leaves the map in the middle of its growth, where the layout knows such a thing.
func fillStatus() {
	status = make(map[int64]Status)
	for i := int64(0); ; i++ {
		status[1000+i] = Status(i % 4)
		if i >= 840 && (truth.Swiss || truth.Describe(status).Growing()) {
			return
		}
	}
}

func customer(i int64) string { return fmt.Sprintf("customer-%d", i%customers) }

func startWorkers() {
	replies = make(map[string]chan string)
	var parked sync.WaitGroup
	for i := int64(0); i < customers; i++ {
		key := customer(i)
		if i == 3 {
			key += " " // the bug: this key was never trimmed
		}
		replies[key] = make(chan string)
	}
	for i := int64(0); i < customers; i++ {
		parked.Add(1)
		go worker(customer(i), &parked)
	}
	parked.Wait()
	time.Sleep(50 * time.Millisecond) // from Done to the channel
}

func worker(customer string, parked *sync.WaitGroup) {
	parked.Done()
	waitReply(strings.ToLower(customer))
}

//go:noinline
func waitReply(customer string) {
	reply := replies[customer]
	fmt.Println(<-reply)
}

func report(wantLive []truth.Entry) {
	truth.Map("main.M0", &M0, "the plainest map")
	truth.Map("main.cache", &cache, "some orders, one nil")
	truth.Map("main.status", &status, "growing, in a classic layout")
	truth.Map("main.replies", &replies, "one key has a trailing space")
	truth.Map("main.service.orders", &service.orders, "after deletes")
	truth.Map("main.service.sessions", &service.sessions, "struct keys")
	truth.Map("main.service.stock", &service.stock, "small")
	truth.SyncMap("main.live", unsafe.Pointer(&live), truth.DescribeSync(&live), wantLive, "sync.Map")
}
