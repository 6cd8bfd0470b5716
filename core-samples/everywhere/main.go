// Command everywhere holds thousands of maps in the places where a map can live, prints the address, type and
// count of each, and waits to be read.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

// Each place has a type of its own, so that a map found under a wrong type shows.
type (
	generic[K comparable, V any] struct{ values map[K]V }
	behind                       map[int16]any
	guarded                      struct {
		mu   sync.Mutex
		held [2]map[byte]uint16
	}
	inStruct struct{ Field map[string]*inSlice }
	inSlice  struct{ Cache map[int64]string }
	inArray  [4]map[string]float64
	list     struct {
		next *list
		held map[uint32][]byte
	}
	holder  interface{ held() map[string]int }
	owner   map[string]int
	scratch struct{ seen map[uint64]int16 }
)

func (o owner) held() map[string]int { return o }

var (
	structs    []*inStruct
	slices     []inSlice
	arrays     []*inArray
	lists      *list
	anything   []any
	holders    []holder
	channels   []chan map[string]uint16
	closures   []func(string) bool
	nested     = map[string]map[int]map[string]bool{}
	keyed      = map[any]string{}
	pointers   []*map[rune]int
	pool       sync.Pool
	victims    sync.Pool
	finalized  []*int
	shared     sync.Map
	out        = json.NewEncoder(os.Stdout)
	many       = 150
	goroutines sync.WaitGroup

	generics  []*generic[uint32, float32]
	boxed     []any
	published atomic.Pointer[guarded]
	past      []*atomic.Pointer[guarded]
	latest    atomic.Value
	raw       []unsafe.Pointer
	numbers   []uintptr
	kept      = map[uintptr]*map[int8]string{}
	timers    []*time.Timer
	never     = make(chan map[string]int32)
)

// say prints the truth about a map.
func say(m any) {
	v := reflect.ValueOf(m)
	layout := "classic"
	if truth.Swiss {
		layout = "swiss"
	}
	out.Encode(map[string]any{"address": fmt.Sprintf("%#x", v.Pointer()), "type": v.Type().String(), "len": v.Len(), "layout": layout})
}

func fill(n int) {
	name := func(i int) string { return fmt.Sprintf("key %d", i) }
	size := n%40 + 1
	s := &inStruct{Field: map[string]*inSlice{}}
	e := inSlice{Cache: map[int64]string{}}
	a := &inArray{}
	a[n%4] = map[string]float64{}
	l := &list{next: lists, held: map[uint32][]byte{}}
	dynamic := map[string]any{}
	o := owner{}
	c := make(chan map[string]uint16, 2)
	buffered := map[string]uint16{}
	captured := map[string]struct{}{}
	inner := map[string]bool{}
	pointed := map[rune]int{}
	stored := map[int]int8{}
	local := map[string]int32{}
	finaliser := map[uint16]string{}
	for i := 0; i < size; i++ {
		s.Field[name(i)] = &inSlice{Cache: nil}
		e.Cache[int64(i*n)] = name(i)
		a[n%4][name(i)] = float64(i)
		l.held[uint32(i)] = []byte(name(i))
		dynamic[name(i)] = i
		o[name(i)] = i
		buffered[name(i)] = uint16(i)
		captured[name(i)] = struct{}{}
		inner[name(i)] = i%2 == 0
		pointed[rune(i)] = i
		stored[i] = int8(i)
		local[name(i)] = int32(i)
		finaliser[uint16(i)] = name(i)
	}
	structs, slices, arrays, lists = append(structs, s), append(slices, e), append(arrays, a), l
	anything, holders = append(anything, dynamic), append(holders, o)
	c <- buffered
	channels = append(channels, c)
	closures = append(closures, func(key string) bool { _, found := captured[key]; return found })
	middle := map[int]map[string]bool{n: inner}
	nested[name(n)] = middle
	keyed[&pointed] = name(n)
	shared.Store(n, stored)
	number := new(int)
	runtime.SetFinalizer(number, func(*int) { finaliser[0] = "gone" })
	finalized = append(finalized, number)
	more(n, size)
	cleaned(number, n)
	for _, m := range []any{s.Field, e.Cache, a[n%4], l.held, dynamic, o, buffered, captured, inner, middle, pointed, stored, local, finaliser} {
		say(m)
	}
	ready := make(chan bool)
	go func() {
		ready <- true
		time.Sleep(time.Hour)
		runtime.KeepAlive(local)
	}()
	<-ready
}

// more fills the places that hide a map from types, or that only the runtime knows.
func more(n, size int) {
	typed := &generic[uint32, float32]{map[uint32]float32{}}
	inBox := behind{}
	pair := &guarded{held: [2]map[byte]uint16{{}, {}}}
	hidden := map[complex64]int{}
	number := map[int8]string{}
	timed := map[float64]bool{}
	deferred := map[[2]int]int{}
	selected := map[string]int32{}
	for i := 0; i < size; i++ {
		typed.values[uint32(i)] = float32(n)
		within := map[bool]int{true: i}
		inBox[int16(i)] = within
		say(within)
		pair.held[0][byte(i)] = uint16(n)
		pair.held[1][byte(i)] = uint16(i)
		hidden[complex(float32(i), 1)] = n
		number[int8(i)] = "number"
		timed[float64(i)] = true
		deferred[[2]int{i, n}] = i
		selected[fmt.Sprint(i)] = int32(n)
	}
	generics = append(generics, typed)
	box := map[string]any{"box": []any{inBox}}
	boxed = append(boxed, box)
	say(box)
	pointer := &atomic.Pointer[guarded]{}
	pointer.Store(pair)
	past = append(past, pointer)
	published.Store(pair)
	latest.Store(inBox)
	raw = append(raw, *(*unsafe.Pointer)(unsafe.Pointer(&hidden)))
	// A number keeps nothing alive: the other pointer does.
	address := uintptr(*(*unsafe.Pointer)(unsafe.Pointer(&number)))
	numbers, kept[address] = append(numbers, address), &number
	timers = append(timers, time.AfterFunc(time.Hour, func() { timed[0] = false }))
	for _, m := range []any{typed.values, inBox, pair.held[0], pair.held[1], hidden, number, timed, deferred, selected} {
		say(m)
	}
	started := make(chan bool)
	go func() {
		for i := 0; i < 2; i++ {
			defer func() { deferred[[2]int{}] = 1 }()
		}
		started <- true
		time.Sleep(time.Hour)
	}()
	<-started
	go func() {
		started <- true
		select {
		case never <- selected:
		case <-time.After(time.Hour):
		}
	}()
	<-started
}

// pooled puts maps into a sync.Pool, as they are and within what is put there.
func pooled(pool *sync.Pool) {
	for n := 0; n < many; n++ {
		whole, within := map[uint64]uint64{}, &scratch{seen: map[uint64]int16{}}
		for i := 0; i <= n%40; i++ {
			whole[uint64(i)<<32] = uint64(n)
			within.seen[uint64(i)] = int16(n)
		}
		pool.Put(whole)
		pool.Put(within)
		say(whole)
		say(within.seen)
	}
}

func main() {
	for n := 0; n < many; n++ {
		fill(n)
	}
	time.Sleep(10 * time.Millisecond)
	say(nested)
	say(keyed)
	runtime.GC()
	runtime.GC()
	// A collection makes victims of what is in pools; the next one would let go of them.
	debug.SetGCPercent(-1)
	pooled(&victims)
	runtime.GC()
	pooled(&pool)
	truth.Ready(truth.Mode())
	for _, has := range closures {
		has("")
	}
}
