// Several goroutines write to one map without a lock, until the runtime notices and kills the program. With the
// argument `one`, main alone writes, and the map only grows. With `wait torn` or `abort torn`, two goroutines race
// unnoticed until the map is torn, and the program prints what it then finds in it itself.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Shared is written by everybody.
var Shared = map[int64]int64{}

// Key is so large that a map holds it behind a pointer.
type Key [17]int64

// Elem is so large that it takes a while to allocate: until then the runtime has chosen a slot, but not marked it.
type Elem struct {
	V   int64
	Pad [4095]int64
}

// Torn is what a race left.
var Torn map[Key]Elem

// Keys of Torn are {0} up to this; odd ones are written by one goroutine, even ones by the other.
const keys = 64

func main() {
	debug.SetTraceback("crash")
	if len(os.Args) > 2 && os.Args[2] == "torn" {
		tearUntilTorn()
		fmt.Printf("READY pid=%d\n", os.Getpid())
		if os.Args[1] == "abort" {
			syscall.Kill(os.Getpid(), syscall.SIGABRT)
		}
		time.Sleep(time.Hour)
	}
	fmt.Printf("READY pid=%d\n", os.Getpid())
	if len(os.Args) > 1 && os.Args[1] == "one" {
		for i := int64(0); i < 1<<20; i++ {
			Shared[i] = i
		}
		return
	}
	for w := int64(0); w < 4; w++ {
		go func(w int64) {
			for i := int64(0); ; i++ {
				Shared[i%512] = w
			}
		}(w)
	}
	time.Sleep(time.Minute)
}

// header is hmap or Map: six words, the count first.
func header(m map[Key]Elem) *[6]uint64 { return *(**[6]uint64)(unsafe.Pointer(&m)) }

// race has two goroutines insert into the same buckets at once. Each has a header of its own, so that neither sees
// the other's flag.
func race() {
	Torn = make(map[Key]Elem, keys*3/2)
	Torn[Key{0}] = Elem{}
	twin := map[Key]Elem{}
	*header(twin) = *header(Torn)
	var both sync.WaitGroup
	for w, m := range []map[Key]Elem{Torn, twin} {
		both.Add(1)
		go func(w int64, m map[Key]Elem) {
			defer both.Done()
			for k := 1 + w; k < keys; k += 2 {
				m[Key{k}] = Elem{V: k * 10}
			}
		}(int64(w), m)
	}
	both.Wait()
	header(Torn)[0] += header(twin)[0] - 1
}

// found is what the program sees in Torn.
type found struct {
	Name   string     `json:"name"`
	Len    int        `json:"len"`
	Ranged [][2]int64 `json:"ranged"`
	// Got has the keys that an index expression finds, with their elems.
	Got [][2]int64 `json:"got"`
	// Lost has those that range shows, but an index expression does not find.
	Lost []int64 `json:"lost"`
}

func look() found {
	f := found{Name: "main.Torn", Len: len(Torn)}
	got := map[int64]bool{}
	for k := int64(0); k < keys; k++ {
		if v, ok := Torn[Key{k}]; ok {
			f.Got = append(f.Got, [2]int64{k, v.V})
			got[k] = true
		}
	}
	for k, v := range Torn {
		f.Ranged = append(f.Ranged, [2]int64{k[0], v.V})
		if !got[k[0]] {
			f.Lost = append(f.Lost, k[0])
		}
	}
	return f
}

func tearUntilTorn() {
	// A lookup in a torn map may never end.
	time.AfterFunc(10*time.Second, func() { os.Exit(3) })
	for {
		race()
		if f := look(); len(f.Lost) > 0 {
			line, _ := json.Marshal(f)
			fmt.Printf("%s\n", line)
			return
		}
	}
}
