// Command syncmap holds a sync.Map in every state of both layouts and prints what it stored in them.
// The mode "verify" compares that record with what Range says.
package main

import (
	"fmt"
	"math"
	"os"
	"sync"
	"unsafe"

	"mapscope.example/samples/truth"
)

type ID int64

type Point struct{ X, Y int }

// recorded is a sync.Map and what it should hold: Range itself would change its state.
type recorded struct {
	name string
	note string
	m    *sync.Map
	want []truth.Entry
}

func (r *recorded) store(key, elem any) {
	r.m.Store(key, elem)
	for i := range r.want {
		if r.want[i].Key == key {
			r.want[i].Elem = elem
			return
		}
	}
	r.want = append(r.want, truth.Entry{Key: key, Elem: elem})
}

func (r *recorded) delete(key any) {
	r.m.Delete(key)
	for i := range r.want {
		if r.want[i].Key == key {
			r.want = append(r.want[:i], r.want[i+1:]...)
			return
		}
	}
}

// promote makes the dirty map of the older layout the read-only one.
func (r *recorded) promote() { r.m.Range(func(any, any) bool { return true }) }

// S holds maps reached by an expression; the Y variables are the states.
var (
	Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10 sync.Map

	S  struct{ Inner struct{ M sync.Map } }
	P  = new(sync.Map)
	pt = &Point{1, 2}
)

func main() {
	truth.Start()
	all := fill()
	for _, r := range all {
		if truth.Mode() == "verify" {
			if err := truth.CheckSync(r.name, r.m, r.want); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			continue
		}
		truth.SyncMap(r.name, unsafe.Pointer(r.m), truth.DescribeSync(r.m), r.want, r.note)
	}
	if truth.Mode() == "verify" {
		return
	}
	truth.Ready(truth.Mode())
}

func fill() []*recorded {
	var all []*recorded
	begin := func(name string, m *sync.Map, note string) *recorded {
		r := &recorded{name: name, note: note, m: m}
		all = append(all, r)
		return r
	}
	begin("main.Y0", &Y0, "never used")
	storeMany(begin("main.Y1", &Y1, "dirty only: stored, never read"), 3)

	r := begin("main.Y2", &Y2, "read-only: promoted")
	storeMany(r, 100)
	r.promote()

	r = begin("main.Y3", &Y3, "amended: read-only and dirty")
	storeMany(r, 50)
	r.promote()
	for i := 50; i < 80; i++ {
		r.store(i, fmt.Sprint("late ", i))
	}

	r = begin("main.Y4", &Y4, "deleted entries, still in the read-only map")
	storeMany(r, 40)
	r.promote()
	for i := 0; i < 40; i += 3 {
		r.delete(i)
	}

	r = begin("main.Y5", &Y5, "expunged entries: deleted, then a new dirty map was made")
	storeMany(r, 40)
	r.promote()
	for i := 0; i < 40; i += 3 {
		r.delete(i)
	}
	r.store("new", true)

	r = begin("main.Y6", &Y6, "expunged entries stored again")
	storeMany(r, 20)
	r.promote()
	for i := 0; i < 20; i++ {
		r.delete(i)
	}
	r.store("new", 1.5)
	r.store(4, "again")

	r = begin("main.Y7", &Y7, "emptied")
	storeMany(r, 30)
	for i := 0; i < 30; i++ {
		r.delete(i)
	}

	// The hash of an interface leaves its type out, so these share one full hash: an overflow chain.
	r = begin("main.Y8", &Y8, "equal hashes: overflow chains in a trie")
	for i := 0; i < 20; i++ {
		r.store(i, "int")
		r.store(int64(i), "int64")
		r.store(uint64(i), "uint64")
		r.store(ID(i), "ID")
		r.store(uintptr(i), "uintptr")
	}
	r.delete(uint64(7))

	r = begin("main.Y9", &Y9, "many entries: a deep trie")
	storeMany(r, 5000)

	r = begin("main.Y10", &Y10, "keys and elems of many types")
	for key, elem := range map[any]any{
		"string": 1, 1.5: "float", Point{1, 2}: []int{1}, pt: pt, nil: nil, true: map[string]int{"a": 1},
		[2]string{"a", "b"}: struct{}{}, complex(1, 2): int8(-1), 'x': []byte("bytes"), ID(5): ID(6),
		math.Inf(1): error(nil), "\xff": "not UTF-8 \xfe",
	} {
		r.store(key, elem)
	}
	r.store(math.NaN(), "NaN")

	r = begin("main.S.Inner.M", &S.Inner.M, "in a struct")
	storeMany(r, 5)
	r = begin("*main.P", P, "behind a pointer")
	storeMany(r, 5)
	return all
}

func storeMany(r *recorded, n int) {
	for i := 0; i < n; i++ {
		r.store(i, fmt.Sprint("elem ", i))
	}
}
