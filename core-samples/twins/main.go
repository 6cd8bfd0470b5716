// Command twins keeps maps whose keys differ in one place that is easily not seen: behind byte 200 of a string, in a
// pointer's address, a dynamic type, the bits of a NaN. For each pair it prints what its own lookups find, and one goroutine
// for each key waits for ever behind such a lookup. Keys that only blank fields and padding tell apart are one key.
// On a line of input it changes the maps and prints how.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

type (
	ident  struct{ shard, n int }
	padded struct {
		small int8
		_     int8
		name  string
		_     [3]uint16
		tail  int8
	}
	pair struct {
		names [2]string
		zone  *ident
	}
)

// At byte 201, and at byte 1500.
var (
	near = strings.Repeat("n", 200)
	far  = strings.Repeat("f", 1500)
)

var (
	texts    = map[string]chan int{}
	pointers = map[*ident]chan int{}
	anys     = map[any]chan int{}
	pads     = map[padded]chan int{}
	floats   = map[float64]chan int{}
	channels = map[chan int]chan int{}
	complexs = map[complex128]chan int{}
	pairs    = map[pair]chan int{}
	spelled  = map[fmt.Stringer]chan int{}
)

// Three variables side by side, of types that only the values tell apart where there are no names.
type (
	whole    struct{ A int }
	text     struct{ B string }
	fraction struct{ C float64 }
)

var (
	first  = map[string]whole{}
	second = map[string]text{}
	third  = map[string]fraction{}
)

func oneType(n int) any {
	type T int
	return T(n)
}

func otherType(n int) any {
	type T int
	return T(n)
}

type celsius int
type kelvin int

func (c celsius) String() string { return strconv.Itoa(int(c)) }
func (k kelvin) String() string  { return strconv.Itoa(int(k)) }

// A Lookup is what one goroutine asked before it waited. Two of one map have the same class where Go's == says so of their keys.
type Lookup struct {
	Map     string `json:"map"`
	Goid    int64  `json:"goid"`
	Class   int    `json:"class"`
	Found   bool   `json:"found"`
	Literal string `json:"literal,omitempty"` // the key as one types it, where that can be done
}

var (
	mu      sync.Mutex
	lookups []*Lookup
	classes = map[string][]any{}
)

func goid() int64 {
	buf := make([]byte, 64)
	id, _ := strconv.ParseInt(strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1], 10, 64)
	return id
}

// ask looks a key up, says so, and has wait do the same and wait.
func ask[K comparable](name string, m map[K]chan int, key K, literal string, wait func(K, func())) {
	_, found := m[key]
	class := 0
	for class < len(classes[name]) && classes[name][class] != any(key) {
		class++
	}
	if class == len(classes[name]) {
		classes[name] = append(classes[name], key)
	}
	lookup := &Lookup{Map: name, Class: class, Found: found, Literal: literal}
	lookups = append(lookups, lookup)
	ready := make(chan bool)
	go wait(key, func() {
		lookup.Goid = goid()
		close(ready)
	})
	<-ready
}

func waitTexts(key string, ready func()) {
	c := texts[key]
	ready()
	<-c
	runtime.KeepAlive(key)
}

func waitPointers(key *ident, ready func()) {
	c := pointers[key]
	ready()
	<-c
	runtime.KeepAlive(key)
}

func waitAnys(key any, ready func()) {
	c := anys[key]
	ready()
	<-c
	runtime.KeepAlive(key)
}

func waitPads(key padded, ready func()) {
	c := pads[key]
	ready()
	<-c
	runtime.KeepAlive(&key)
}

func waitFloats(key float64, ready func()) {
	c := floats[key]
	ready()
	<-c
	runtime.KeepAlive(&key)
}

func waitChannels(key chan int, ready func()) {
	c := channels[key]
	ready()
	<-c
	runtime.KeepAlive(key)
}

func waitComplexs(key complex128, ready func()) {
	c := complexs[key]
	ready()
	<-c
	runtime.KeepAlive(&key)
}

func waitPairs(key pair, ready func()) {
	c := pairs[key]
	ready()
	<-c
	runtime.KeepAlive(&key)
}

func waitSpelled(key fmt.Stringer, ready func()) {
	c := spelled[key]
	ready()
	<-c
	runtime.KeepAlive(key)
}

// dirty is a padded whose blank fields and padding are all of this byte.
func dirty(fill byte, small int8, name string, tail int8) padded {
	var p padded
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&p)), unsafe.Sizeof(p))
	for i := range bytes {
		bytes[i] = fill
	}
	p.small, p.name, p.tail = small, name, tail
	return p
}

func nan(low uint64) float64 { return math.Float64frombits(0x7ff8000000000000 | low) }

func at[T any](p *T) string { return fmt.Sprintf("%#x", uintptr(unsafe.Pointer(p))) }

func chanAt(c chan int) string { return fmt.Sprintf("%#x", *(*uintptr)(unsafe.Pointer(&c))) }

func main() {
	truth.Start()
	first["a"], second["b"], third["c"] = whole{1}, text{"x"}, fraction{2.5}
	stored, other, spare := &ident{1, 7}, &ident{1, 7}, &ident{1, 7}
	chans := [3]chan int{make(chan int), make(chan int), make(chan int)}

	for _, key := range []string{near + "stored", near + "second", far + "stored", near, "short"} {
		texts[key] = make(chan int)
	}
	for _, key := range []string{near + "stored", near + "absent", near + "stores", far + "stored", far + "absent", near + "absent", near, near[1:] + "n"} {
		ask("texts", texts, strings.Clone(key), strconv.Quote(key), waitTexts)
	}
	pointers[stored], pointers[spare] = make(chan int), make(chan int)
	for _, key := range []*ident{stored, other, spare, stored, nil} {
		literal := "nil"
		if key != nil {
			literal = at(key)
		}
		ask("pointers", pointers, key, literal, waitPointers)
	}
	anys[int(7)], anys[oneType(7)], anys[celsius(7)], anys[7.5] = make(chan int), make(chan int), make(chan int), make(chan int)
	anys[near+"any"] = make(chan int)
	ask("anys", anys, any(int(7)), "int(7)", waitAnys)
	ask("anys", anys, any(int64(7)), "int64(7)", waitAnys)
	ask("anys", anys, oneType(7), "", waitAnys)
	ask("anys", anys, otherType(7), "", waitAnys)
	ask("anys", anys, any(celsius(7)), "celsius(7)", waitAnys)
	ask("anys", anys, any(kelvin(7)), "kelvin(7)", waitAnys)
	ask("anys", anys, any(near+"any"), strconv.Quote(near+"any"), waitAnys)
	ask("anys", anys, any(near+"anx"), strconv.Quote(near+"anx"), waitAnys)

	pads[dirty(0xff, 1, "a", 2)] = make(chan int)
	ask("pads", pads, dirty(0x00, 1, "a", 2), "", waitPads)
	ask("pads", pads, dirty(0x77, 1, "a", 2), "", waitPads)
	ask("pads", pads, dirty(0xff, 1, "a", 3), "", waitPads)
	ask("pads", pads, dirty(0xff, 2, "a", 2), "", waitPads)

	floats[0.0], floats[nan(1)], floats[nan(2)], floats[0.1] = make(chan int), make(chan int), make(chan int), make(chan int)
	ask("floats", floats, 0.0, "0", waitFloats)
	ask("floats", floats, math.Copysign(0, -1), "-0", waitFloats)
	ask("floats", floats, 0.1, "0.1", waitFloats)
	ask("floats", floats, math.Nextafter(0.1, 1), "0.10000000000000002", waitFloats)
	ask("floats", floats, nan(1), "", waitFloats)

	channels[chans[0]], channels[chans[2]] = make(chan int), make(chan int)
	for _, key := range chans {
		ask("channels", channels, key, chanAt(key), waitChannels)
	}
	complexs[complex(0, 1)] = make(chan int)
	ask("complexs", complexs, complex(0, 1), "(0+1i)", waitComplexs)
	ask("complexs", complexs, complex(math.Copysign(0, -1), 1), "(-0+1i)", waitComplexs)
	ask("complexs", complexs, complex(1, 0), "(1+0i)", waitComplexs)

	pairs[pair{[2]string{"a", near + "x"}, stored}] = make(chan int)
	for _, key := range []pair{{[2]string{"a", near + "x"}, stored}, {[2]string{"a", near + "x"}, other}, {[2]string{"a", near + "y"}, stored}} {
		literal := fmt.Sprintf("{{%q, %q}, %s}", key.names[0], key.names[1], at(key.zone))
		ask("pairs", pairs, key, literal, waitPairs)
	}
	spelled[celsius(3)] = make(chan int)
	ask("spelled", spelled, fmt.Stringer(celsius(3)), "celsius(3)", waitSpelled)
	ask("spelled", spelled, fmt.Stringer(kelvin(3)), "kelvin(3)", waitSpelled)

	for parked() < len(lookups) {
		time.Sleep(time.Millisecond)
	}
	say(map[string]any{"lookups": lookups})
	say(map[string]any{"variables": map[string]string{"main.first": at(&first), "main.second": at(&second), "main.third": at(&third)}})
	if truth.Mode() == "abort" {
		truth.AbortSoon()
	}
	truth.Announce()
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		time.Sleep(30 * time.Minute)
		os.Exit(3)
	}
	// Each key goes, and one that looks like it comes, with the same channel; but for those that == takes for one.
	delete(texts, near+"stored")
	texts[near+"stores"] = make(chan int)
	pointers[other] = pointers[stored]
	delete(pointers, stored)
	spare.n = 8
	anys[int64(7)], anys[otherType(7)] = anys[int(7)], anys[oneType(7)]
	delete(anys, int(7))
	delete(anys, oneType(7))
	zero := floats[0]
	delete(floats, 0)
	floats[math.Copysign(0, -1)] = zero
	clean := pads[dirty(0, 1, "a", 2)]
	delete(pads, dirty(0, 1, "a", 2))
	pads[dirty(0x11, 1, "a", 2)] = clean
	say(map[string]any{"changed": map[string][3]int{ // added, removed, kept
		"texts": {1, 1, 4}, "pointers": {1, 1, 1}, "anys": {2, 2, 3}, "floats": {0, 0, 4}, "pads": {0, 0, 1},
	}})
	fmt.Println("READY again")
	time.Sleep(30 * time.Minute)
}

// parked is how many goroutines wait on a channel.
func parked() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), " [chan receive")
}

func say(document any) {
	text, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
