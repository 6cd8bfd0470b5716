// Command everywhere holds thousands of maps in the places where a map can live, prints the address, type and
// count of each, and waits to be read.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"
	"time"

	"mapscope.example/samples/truth"
)

// Each place has a type of its own, so that a map found under a wrong type shows.
type (
	inStruct struct{ Field map[string]*inSlice }
	inSlice  struct{ Cache map[int64]string }
	inArray  [4]map[string]float64
	list     struct {
		next *list
		held map[uint32][]byte
	}
	holder interface{ held() map[string]int }
	owner  map[string]int
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
	finalized  []*int
	shared     sync.Map
	out        = json.NewEncoder(os.Stdout)
	many       = 150
	goroutines sync.WaitGroup
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
	pooled := map[uint64]uint64{}
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
		pooled[uint64(i)<<32] = uint64(i)
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
	pool.Put(pooled)
	shared.Store(n, stored)
	number := new(int)
	runtime.SetFinalizer(number, func(*int) { finaliser[0] = "gone" })
	finalized = append(finalized, number)
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
	runtime.KeepAlive(pooled)
}

func main() {
	for n := 0; n < many; n++ {
		fill(n)
	}
	say(nested)
	say(keyed)
	runtime.GC()
	runtime.GC()
	truth.Ready(truth.Mode())
	for _, has := range closures {
		has("")
	}
}
