// Command shared has goroutines put in, look up and delete the same few keys of maps that they share, and prints how many
// operations found their key and how many did not, as the operations themselves said: shared MODE [OPERATIONS [GOROUTINES
// [PAUSE-MICROSECONDS]]].
//
// It starts on a line of input. The plain maps are behind one lock, the sync.Map behind none, so a look at it a moment
// later, or earlier, tells something else. Goroutines are short-lived, run at all depths of small stacks and with the
// collector at work; now and then a key cannot be hashed, and the operation panics instead of returning: hit is null then,
// as it is for CompareAndSwap and CompareAndDelete where nothing was done. After READY and the line of input it prints
// {"counts":[{"map","op","hit","n"}],"operations":N} and DONE. With 0 operations it looks up two long keys that are not there,
// each with a twin that is, until the line comes.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

const keys = 12

var (
	lock    sync.Mutex
	Pending = map[string]chan int{}
	Numbers = map[int64]int{}
	Small   = map[int32]int{}
	Boxed   = map[any]int{}
	Fat     = map[string][1100]byte{}
	Points  = map[[2]string]*int{}
	Empty   = map[string]int{}
	Nil     map[int64]int
	Live    sync.Map

	long  = "https://example.org/" + strings.Repeat("a", 220) + "/"
	Cache = map[string]int{long + "alpha ": 1, long + "Omega": 2}
)

const (
	missed = iota
	found
	unknown
)

type count struct {
	subject, op string
	hit         int
}

// tally is one goroutine's; there is no map in it.
type tally struct {
	rows []count
	ns   []int
}

func (t *tally) add(subject, op string, hit int) { t.addAll(subject, op, hit, 1) }

func (t *tally) addAll(subject, op string, hit, n int) {
	for i, row := range t.rows {
		if row.op == op && row.subject == subject && row.hit == hit {
			t.ns[i] += n
			return
		}
	}
	t.rows, t.ns = append(t.rows, count{subject, op, hit}), append(t.ns, n)
}

func is(ok bool) int {
	if ok {
		return found
	}
	return missed
}

// done is of what says nothing of the key where it did nothing.
func done(ok bool) int {
	if ok {
		return found
	}
	return unknown
}

// locked does one operation on a plain map: what was there before shows in the elem, the ok or the number of entries.
func locked[K comparable, V any](t *tally, name string, m map[K]V, key K, elem V, isZero func(V) bool, what int) {
	lock.Lock()
	defer lock.Unlock()
	before := len(m)
	switch what % 4 {
	case 0:
		t.add(name, "access1", is(!isZero(m[key])))
	case 1:
		_, ok := m[key]
		t.add(name, "access2", is(ok))
	case 2:
		m[key] = elem
		t.add(name, "assign", is(len(m) == before))
	case 3:
		delete(m, key)
		t.add(name, "delete", is(len(m) < before))
	}
}

func live(t *tally, key any, what int) {
	switch what % 8 {
	case 0:
		_, ok := Live.Load(key)
		t.add("Live", "Load", is(ok))
	case 1:
		_, ok := Live.LoadOrStore(key, 1)
		t.add("Live", "LoadOrStore", is(ok))
	case 2:
		_, ok := Live.LoadAndDelete(key)
		t.add("Live", "LoadAndDelete", is(ok))
	case 3:
		_, ok := Live.Swap(key, 1)
		t.add("Live", "Swap", is(ok))
	case 4:
		_, ok := Live.Load(key)
		t.add("Live", "Load", is(ok))
	case 5:
		t.add("Live", "CompareAndSwap", done(Live.CompareAndSwap(key, 1, 1)))
	case 6:
		t.add("Live", "CompareAndDelete", done(Live.CompareAndDelete(key, 1)))
	case 7:
		_, ok := Live.Load("never " + strconv.Itoa(what))
		t.add("Live", "Load", is(ok))
	}
}

// unhashable looks up or puts in what no map can hold.
func unhashable(t *tally, what int) {
	op := [...]string{"access1", "access2", "assign", "delete"}[what%4]
	lock.Lock()
	defer lock.Unlock()
	defer func() {
		if recover() == nil {
			panic("a slice was hashed")
		}
		t.add("Boxed", op, unknown)
	}()
	key := any([]int{what})
	switch what % 4 {
	case 0:
		sink = Boxed[key]
	case 1:
		_, flag = Boxed[key]
	case 2:
		Boxed[key] = 1
	case 3:
		delete(Boxed, key)
	}
}

var (
	sink int
	flag bool
)

func operation(t *tally, subject, key, what int) {
	text := "order-" + strconv.Itoa(key)
	number := func(n int) bool { return n == 0 }
	switch subject {
	case 0:
		locked(t, "Pending", Pending, text, make(chan int), func(c chan int) bool { return c == nil }, what)
	case 1:
		locked(t, "Numbers", Numbers, int64(key)<<33, 1, number, what)
	case 2:
		locked(t, "Small", Small, int32(key), 1, number, what)
	case 3:
		boxed := any(key)
		if key%2 == 0 {
			boxed = text
		}
		locked(t, "Boxed", Boxed, boxed, 1, number, what)
	case 4:
		locked(t, "Fat", Fat, text, [1100]byte{1: 1}, func(e [1100]byte) bool { return e[1] == 0 }, what)
	case 5:
		locked(t, "Points", Points, [2]string{text, "b"}, &sink, func(p *int) bool { return p == nil }, what)
	case 6:
		locked(t, "Empty", Empty, text, 1, number, []int{0, 1, 3}[what%3])
	case 7:
		locked(t, "Nil", Nil, int64(key), 1, number, []int{0, 1, 3}[what%3])
	case 8:
		unhashable(t, what)
	default:
		live(t, text, what)
	}
}

// at does an operation so deep in the stack that some grow it.
//
//go:noinline
func at(depth int, t *tally, subject, key, what int) byte {
	var room [100]byte
	if depth > 0 {
		room[depth%100] = at(depth-1, t, subject, key, what)
		return room[depth%50]
	}
	operation(t, subject, key, what)
	return room[key]
}

func argument(i, fallback int) int {
	if len(os.Args) <= i {
		return fallback
	}
	n, err := strconv.Atoi(os.Args[i])
	if err != nil || n < 0 {
		fmt.Fprintln(os.Stderr, "use: shared wait [OPERATIONS [GOROUTINES [PAUSE-MICROSECONDS]]]")
		os.Exit(2)
	}
	return n
}

// perGoroutine is how many operations a goroutine does before another takes its place.
const perGoroutine = 40

//go:noinline
func ask(key string) int { return Cache[key] }

func askOn() {
	line := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(line)
	}()
	alpha, omega := long+"alpha", long+"omega"
	for {
		ask(alpha)
		ask(omega)
		ask(omega)
		select {
		case <-line:
			fmt.Println("DONE")
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func main() {
	truth.Start()
	operations, goroutines, pause := argument(2, 10000), argument(3, 8), argument(4, 1)
	truth.Unlisted("main.Pending", &Pending, "shared")
	truth.Unlisted("main.Numbers", &Numbers, "shared")
	truth.Unlisted("main.Small", &Small, "shared")
	truth.Unlisted("main.Boxed", &Boxed, "shared")
	truth.Unlisted("main.Fat", &Fat, "shared")
	truth.Unlisted("main.Points", &Points, "shared")
	truth.Unlisted("main.Empty", &Empty, "never has an entry")
	truth.Unlisted("main.Cache", &Cache, "long keys that differ at their ends")
	truth.SyncMap("main.Live", unsafe.Pointer(&Live), truth.DescribeSync(&Live), nil, "shared without a lock")
	truth.Announce()
	if operations == 0 {
		askOn()
		return
	}
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		time.Sleep(30 * time.Minute)
		os.Exit(3)
	}
	debug.SetGCPercent(20)
	tallies := make([]tally, goroutines)
	var left int64 = int64(operations)
	var ended sync.WaitGroup
	for i := range tallies {
		ended.Add(1)
		go run(&tallies[i], uint32(i)*2654435761+1, &left, pause, &ended)
	}
	ended.Wait()
	report(tallies, operations)
}

// run does some operations, and starts a goroutine that goes on.
func run(t *tally, random uint32, left *int64, pause int, ended *sync.WaitGroup) {
	draw := func(n uint32) int {
		random ^= random << 13
		random ^= random >> 17
		random ^= random << 5
		return int(random % n)
	}
	for i := 0; i < perGoroutine; i++ {
		if atomic.AddInt64(left, -1) < 0 {
			ended.Done()
			return
		}
		at(draw(40), t, draw(14), draw(keys), draw(64))
		if draw(16) == 0 {
			runtime.Gosched()
		}
		if draw(64) == 0 {
			time.Sleep(time.Duration(64*pause) * time.Microsecond)
		}
	}
	go run(t, random, left, pause, ended)
}

func report(tallies []tally, operations int) {
	var all tally
	for i := range tallies {
		for j, row := range tallies[i].rows {
			all.addAll(row.subject, row.op, row.hit, tallies[i].ns[j])
		}
	}
	fmt.Print(`{"counts":[`)
	for i, row := range all.rows {
		if i > 0 {
			fmt.Print(",")
		}
		hit := [...]string{"false", "true", "null"}[row.hit]
		fmt.Printf(`{"map":"main.%s","op":"%s","hit":%s,"n":%d}`, row.subject, row.op, hit, all.ns[i])
	}
	fmt.Printf("],\"operations\":%d}\nDONE\n", operations)
}
