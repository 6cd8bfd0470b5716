// Command ops does a known number of map operations through every variant of the runtime's map functions,
// and prints how many it did of which kind: ops MODE [OPERATIONS [GOROUTINES [PAUSE-MICROSECONDS]]].
//
// In the mode "wait" it starts on SIGUSR1 or a line on standard input, so that probes can be set first; in
// "exit" at once. After the truth's head lines and READY it prints one document
// {"counts":[{"map","goroutine","op","key","hit","n"}],"operations":N}, the line DONE, and ends.
// hit says that the key was there before the operation; iterate and clear have key null and hit
// when the map was not empty. CompareAndSwap hits when it swapped.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

const keysPerMap = 16

type (
	Name   string
	Point  struct{ X, Y int32 }
	Mixed  struct{ A, B string }
	Key200 [200]byte
)

// World holds one goroutine's maps: nobody else touches them.
type World struct {
	Int32   map[int32]int         // fast32
	Uint32  map[uint32]string     // fast32
	Int64   map[int64]int64       // fast64
	Point   map[Point]int         // fast64: 8 plain bytes
	Pointer map[*int]int          // fast64ptr
	String  map[string]int        // faststr
	Named   map[Name]struct{}     // faststr
	Byte    map[uint8]int         // generic: a small key
	Float   map[float64]int       // generic
	Mixed   map[Mixed]int         // generic
	Any     map[any]int           // generic: an interface
	Big     map[Key200]int        // generic: a key stored by pointer
	BigElem map[int64][200]byte   // generic, because of the elem
	Fat     map[string][1100]byte // the variant for elems over 1024 bytes
	Sync    sync.Map
}

var Worlds []*World

type op uint8

const (
	access1 op = iota
	access2
	inlined // access1 through a function that the compiler inlines
	assign
	remove
	iterate
	wipe
	load
	store
	syncDelete
	loadOrStore
	loadAndDelete
	swap
	compareAndSwap
)

var opNames = [...]string{"access1", "access2", "access1", "assign", "delete", "iterate", "clear",
	"Load", "Store", "Delete", "LoadOrStore", "LoadAndDelete", "Swap", "CompareAndSwap"}

// mapOps is how often each operation on a map is drawn.
var mapOps = [...]op{access1, access1, access1, access2, access2, access2, inlined, inlined, assign, assign, assign, assign, remove, remove, iterate, wipe}

// subject is one map and what must be in it.
type subject interface {
	// do runs the operation on the key of this number; hit is as in the counts.
	do(o op, key int) (hit bool)
	name() string
	keyText(key int) string
}

type mapSubject[K comparable, V any] struct {
	label   string
	m       map[K]V
	keys    [keysPerMap]K
	elem    V
	present [keysPerMap]bool
}

//go:noinline
func use[T any](T) {}

func peek[K comparable, V any](m map[K]V, key K) V { return m[key] }

func (s *mapSubject[K, V]) do(o op, i int) bool {
	hit := s.present[i]
	switch o {
	case access1:
		use(s.m[s.keys[i]])
	case access2:
		if _, ok := s.m[s.keys[i]]; ok != hit {
			panic(s.label + ": the record is wrong")
		}
	case inlined:
		use(peek(s.m, s.keys[i]))
	case assign:
		s.m[s.keys[i]] = s.elem
		s.present[i] = true
	case remove:
		delete(s.m, s.keys[i])
		s.present[i] = false
	case iterate:
		hit = len(s.m) > 0
		for k := range s.m {
			use(k)
			break
		}
	case wipe:
		hit = len(s.m) > 0
		empty(s.m)
		s.present = [keysPerMap]bool{}
	}
	return hit
}

func (s *mapSubject[K, V]) name() string         { return s.label }
func (s *mapSubject[K, V]) keyText(i int) string { return truth.Value(&s.keys[i]) }

type syncSubject struct {
	label   string
	m       *sync.Map
	keys    [keysPerMap]any
	elems   [keysPerMap]int
	present [keysPerMap]bool
}

func (s *syncSubject) do(o op, i int) bool {
	hit := s.present[i]
	key := s.keys[i]
	switch o {
	case load:
		if _, ok := s.m.Load(key); ok != hit {
			panic(s.label + ": the record is wrong")
		}
	case store:
		s.m.Store(key, i)
		s.elems[i], s.present[i] = i, true
	case syncDelete:
		s.m.Delete(key)
		s.present[i] = false
	case loadOrStore:
		s.m.LoadOrStore(key, i)
		if !hit {
			s.elems[i], s.present[i] = i, true
		}
	case loadAndDelete:
		s.m.LoadAndDelete(key)
		s.present[i] = false
	case swap:
		exchange(s.m, key, i+1)
		s.elems[i], s.present[i] = i+1, true
	case compareAndSwap:
		hit = exchangeIf(s.m, key, i, i+2)
		if want := s.present[i] && s.elems[i] == i; hit != want {
			panic(s.label + ": the record is wrong")
		}
		if hit {
			s.elems[i] = i + 2
		}
	}
	return hit
}

func (s *syncSubject) name() string         { return s.label }
func (s *syncSubject) keyText(i int) string { return truth.Value(&s.keys[i]) }
func isSync(s subject) bool                 { _, ok := s.(*syncSubject); return ok }
func keyless(o op) bool                     { return o == iterate || o == wipe }
func argument(i, fallback int) int {
	if len(os.Args) <= i {
		return fallback
	}
	n, err := strconv.Atoi(os.Args[i])
	if err != nil || n < 0 {
		fmt.Fprintln(os.Stderr, "use: ops wait|exit [OPERATIONS [GOROUTINES [PAUSE-MICROSECONDS]]]")
		os.Exit(2)
	}
	return n
}

func subjectOf[K comparable, V any](label string, m *map[K]V, key func(int) K, elem V) subject {
	*m = make(map[K]V)
	s := &mapSubject[K, V]{label: label, m: *m, elem: elem}
	for i := range s.keys {
		s.keys[i] = key(i)
		if i%2 == 0 {
			s.do(assign, i)
		}
	}
	truth.Unlisted(label, m, "half of its keys, before the start")
	return s
}

var cells [keysPerMap]int

func newWorld(n int) (*World, []subject) {
	w := &World{}
	label := func(field string) string { return fmt.Sprintf("main.Worlds[%d].%s", n, field) }
	all := []subject{
		subjectOf(label("Int32"), &w.Int32, func(i int) int32 { return int32(-i) }, 1),
		subjectOf(label("Uint32"), &w.Uint32, func(i int) uint32 { return uint32(i) << 20 }, "elem"),
		subjectOf(label("Int64"), &w.Int64, func(i int) int64 { return int64(i) << 40 }, 2),
		subjectOf(label("Point"), &w.Point, func(i int) Point { return Point{int32(i), -1} }, 3),
		subjectOf(label("Pointer"), &w.Pointer, func(i int) *int { return &cells[i] }, 4),
		subjectOf(label("String"), &w.String, func(i int) string { return strings.Repeat("k", i) }, 5),
		subjectOf(label("Named"), &w.Named, func(i int) Name { return Name(fmt.Sprint("name ", i)) }, struct{}{}),
		subjectOf(label("Byte"), &w.Byte, func(i int) uint8 { return uint8(i) }, 6),
		subjectOf(label("Mixed"), &w.Mixed, func(i int) Mixed { return Mixed{fmt.Sprint(i), "b"} }, 8),
		subjectOf(label("Big"), &w.Big, func(i int) Key200 { return Key200{199: byte(i)} }, 10),
		subjectOf(label("BigElem"), &w.BigElem, func(i int) int64 { return int64(i) }, [200]byte{}),
		subjectOf(label("Fat"), &w.Fat, func(i int) string { return fmt.Sprint("fat ", i) }, [1100]byte{}),
	}
	all = append(all, newer(w, label)...)
	s := &syncSubject{label: label("Sync"), m: &w.Sync}
	for i := range s.keys {
		s.keys[i] = anyKey(i)
	}
	truth.SyncMap(s.label, unsafe.Pointer(s.m), truth.DescribeSync(s.m), nil, "empty, before the start")
	return w, append(all, s)
}

func anyKey(i int) any {
	if i%2 == 0 {
		return i
	}
	return fmt.Sprint("any ", i)
}

// tally counts without a map: [subject][op][key][hit].
type tally [][len(opNames)][keysPerMap][2]int

type worker struct {
	subjects  []subject
	done      tally
	goroutine int
	random    uint32
}

func (w *worker) draw(n int) int {
	w.random ^= w.random << 13
	w.random ^= w.random >> 17
	w.random ^= w.random << 5
	return int(w.random % uint32(n))
}

func (w *worker) run(operations int, pause time.Duration) {
	for ; operations > 0; operations-- {
		i, key := w.draw(len(w.subjects)), w.draw(keysPerMap)
		s := w.subjects[i]
		o := mapOps[w.draw(len(mapOps))]
		if isSync(s) {
			o = load + op(w.draw(int(lastSyncOp-load)+1))
		}
		if keyless(o) {
			key = 0
		}
		hit := 0
		if s.do(o, key) {
			hit = 1
		}
		w.done[i][o][key][hit]++
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

func main() {
	truth.Start()
	operations, goroutines := argument(2, 10000), argument(3, 8)
	pause := time.Duration(argument(4, 0)) * time.Microsecond
	if goroutines == 0 {
		goroutines = 1
	}
	workers := make([]*worker, goroutines)
	for i := range workers {
		world, subjects := newWorld(i)
		Worlds = append(Worlds, world)
		workers[i] = &worker{subjects: subjects, done: make(tally, len(subjects)), random: uint32(i)*2654435761 + 1}
	}
	start := make(chan struct{})
	var ready, ended sync.WaitGroup
	for i, w := range workers {
		share := operations / goroutines
		if i < operations%goroutines {
			share++
		}
		ready.Add(1)
		ended.Add(1)
		go func(w *worker) {
			w.goroutine = goroutineID()
			ready.Done()
			<-start
			w.run(share, pause)
			ended.Done()
		}(w)
	}
	ready.Wait()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	truth.Announce()
	switch truth.Mode() {
	case "wait":
		awaitStart(signals)
	case "exit":
	default:
		fmt.Fprintln(os.Stderr, "the modes of ops are wait and exit")
		os.Exit(2)
	}
	close(start)
	ended.Wait()
	report(workers, operations)
}

// awaitStart takes a line or a signal; an input that ends without a line leaves the signal.
func awaitStart(signals chan os.Signal) {
	line := make(chan struct{})
	go func() {
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err == nil {
			close(line)
		}
	}()
	select {
	case <-line:
	case <-signals:
	case <-time.After(30 * time.Minute):
		os.Exit(3)
	}
}

// goroutineID reads it from the only place where Go says it.
func goroutineID() int {
	text := make([]byte, 64)
	id, err := strconv.Atoi(strings.Fields(string(text[:runtime.Stack(text, false)]))[1])
	if err != nil {
		panic(err)
	}
	return id
}

func report(workers []*worker, operations int) {
	out := bufio.NewWriter(os.Stdout)
	out.WriteString(`{"counts":[`)
	first := true
	for _, w := range workers {
		for i, s := range w.subjects {
			for o := range w.done[i] {
				for key := range w.done[i][o] {
					for hit, n := range w.done[i][o][key] {
						if n == 0 {
							continue
						}
						if !first {
							out.WriteByte(',')
						}
						first = false
						text := "null"
						if !keyless(op(o)) {
							text = s.keyText(key)
						}
						fmt.Fprintf(out, `{"map":"%s","goroutine":%d,"op":"%s","inlined":%t,"key":%s,"hit":%t,"n":%d}`,
							s.name(), w.goroutine, opNames[o], op(o) == inlined, text, hit == 1, n)
					}
				}
			}
		}
	}
	fmt.Fprintf(out, "],\"operations\":%d}\nDONE\n", operations)
	out.Flush()
}
