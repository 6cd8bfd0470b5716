// Maps that are torn wherever a type leads to one, and maps in which a lookup of an absent key never ends: the program
// looks such a key up itself, and says whether that ended within a second.
package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

type holder struct{ M map[int64]int64 }

var (
	Sound        = fill(100)
	Variable     = fill(100)
	Field        = &holder{fill(100)}
	Pointer      = func() *map[int64]int64 { m := fill(100); return &m }()
	Held     any = fill(100)
	Outer        = map[string]map[int64]int64{"inner": fill(100)}
	// Full has eight entries in one bucket whose chain leads to itself, or sixty in a table without an empty slot.
	Full map[int64]int64
	// Ends is made the same way, with an empty slot left.
	Ends map[int64]int64
)

// Maps with a key that was changed behind their back: the program looks it up by what it is now.
var (
	Few    = fill(5)
	Many   = fill(100)
	Texts  = texts("a string of more than sixty-four bytes, so that it is compared in full only if its ends are right: ")
	Short  = texts("short ")
	Arrays = map[[3]int64]int64{{1}: 1, {2}: 2, {3}: 3}
	// Elems as large as a lookup for keys of 8 bytes takes.
	Wide = map[int64][16]int64{1: {}, 2: {}, 3: {}}
)

func texts(start string) map[string]int64 {
	m := map[string]int64{}
	for i := int64(0); i < 5; i++ {
		m[start+strconv.FormatInt(i, 10)] = i
	}
	return m
}

// keyOf gives the place of a stored key: that of the variable that range copies it from cannot be had.
func keyOf[K comparable, V any](m map[K]V, key K) *K {
	header := *(*unsafe.Pointer)(unsafe.Pointer(&m))
	var k K
	var v V
	size, elem := unsafe.Sizeof(k), unsafe.Sizeof(v)
	var cells []unsafe.Pointer
	stride := size
	if truth.Swiss {
		stride = size + elem
		first := *at[unsafe.Pointer](header, 16)
		if count := *at[uint64](header, 24); count == 0 {
			cells = append(cells, first)
		} else {
			for i := uint64(0); i < count; i++ {
				table := *at[unsafe.Pointer](first, uintptr(i)*8)
				groups, mask := *at[unsafe.Pointer](table, 16), *at[uint64](table, 24)
				for g := uint64(0); g <= mask; g++ {
					cells = append(cells, unsafe.Add(groups, uintptr(g)*(8+8*stride)))
				}
			}
		}
	} else {
		buckets, size := *at[unsafe.Pointer](header, 16), 8+8*(size+elem)+8
		for i := uintptr(0); i < 1<<*at[uint8](header, 9); i++ {
			for cell := unsafe.Add(buckets, i*size); cell != nil; cell = *at[unsafe.Pointer](cell, size-8) {
				cells = append(cells, cell)
			}
		}
	}
	for _, cell := range cells {
		for i := uintptr(0); i < 8; i++ {
			if stored := at[K](cell, 8+i*stride); *stored == key {
				return stored
			}
		}
	}
	panic("the key is not where it should be")
}

// change changes a stored key, and says whether a lookup finds what it is now.
func change[K comparable, V any](name string, m map[K]V, from, to K, literal string) {
	*keyOf(m, from) = to
	_, found := m[to]
	text, _ := json.Marshal(literal)
	fmt.Printf(`{"lookup":"main.%s","key":%s,"found":%v}`+"\n", name, text, found)
}

// Absent is in none of them.
const Absent = 1 << 40

func fill(n int64) map[int64]int64 {
	m := map[int64]int64{}
	for i := int64(0); i < n; i++ {
		m[i] = i * 10
	}
	return m
}

func at[T any](base unsafe.Pointer, offset uintptr) *T { return (*T)(unsafe.Add(base, offset)) }

func header(m map[int64]int64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&m)) }

func tear(m map[int64]int64) {
	if truth.Swiss {
		*at[uint64](header(m), 24) = 1 << 40 // entries of the directory (internal/runtime/maps.Map.dirLen)
	} else {
		*at[uint8](header(m), 9) = 60 // runtime.hmap.B
	}
}

// fullOf returns a map whose free slots are tombstones but for `empty` of them, or (classic) one bucket in a circle.
func fullOf(empty int) map[int64]int64 {
	if !truth.Swiss {
		m := fill(int64(8 - empty))
		bucket := *at[unsafe.Pointer](header(m), 16)
		*at[unsafe.Pointer](bucket, 8+8*16) = bucket
		return m
	}
	m := fill(60)
	table := **at[*unsafe.Pointer](header(m), 16)
	groups, mask := *at[unsafe.Pointer](table, 16), *at[uint64](table, 24)
	for g := uint64(0); g <= mask; g++ {
		controls := at[[8]byte](groups, uintptr(g)*(8+8*16))
		for i := range controls {
			if controls[i] == 0x80 && empty > 0 {
				empty--
			} else if controls[i] == 0x80 {
				controls[i] = 0xfe
			}
		}
	}
	return m
}

// ends says whether the program's own lookup of an absent key does.
func ends(m map[int64]int64) bool {
	done := make(chan bool, 1)
	go func() { _, ok := m[Absent]; done <- !ok }()
	select {
	case absent := <-done:
		return absent
	case <-time.After(time.Second):
		return false
	}
}

func main() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(4)
	Full, Ends = fullOf(0), fullOf(1)
	for _, m := range []struct {
		name string
		m    map[int64]int64
	}{{"Variable", Variable}, {"Field", Field.M}, {"Pointer", *Pointer}, {"Held", Held.(map[int64]int64)}, {"Outer", Outer["inner"]}} {
		fmt.Printf(`{"torn":"main.%s","address":"%p"}`+"\n", m.name, header(m.m))
		tear(m.m)
	}
	for _, m := range []struct {
		name string
		m    map[int64]int64
	}{{"Full", Full}, {"Ends", Ends}} {
		fmt.Printf(`{"name":"main.%s","len":%d,"ends":%v}`+"\n", m.name, len(m.m), ends(m.m))
	}
	change("Few", Few, 2, 1000, "1000")
	change("Many", Many, 2, 1000, "1000")
	long := "a string of more than sixty-four bytes, so that it is compared in full only if its ends are right: 2"
	change("Texts", Texts, long, "A"+long[1:], strconv.Quote("A"+long[1:]))
	change("Short", Short, "short 2", "Short 2", `"Short 2"`)
	change("Arrays", Arrays, [3]int64{2}, [3]int64{200}, "[3]int64{200, 0, 0}")
	change("Wide", Wide, 2, 1000, "1000")
	truth.Ready(truth.Mode())
	fmt.Println(Sound)
}
