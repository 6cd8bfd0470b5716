// Command maps holds package variables M0, M1, … with a map of every kind of key and elem, in every
// state of both layouts, prints the truth about them and waits to be read.
package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	_ "time/tzdata" // the zones of zonedTimes must not depend on the machine
	"unsafe"

	"mapscope.example/samples/truth"
)

var (
	M0  map[string]int             // a few entries
	M1  map[string]int             // nil
	M2  map[string]int             // empty
	M3  map[string]int             // made with a hint, empty
	M4  map[string]int             // made with a small hint, empty
	M5  map[int]int                // 1 entry
	M6  map[int]int                // 8 entries: one full bucket or group
	M7  map[int]int                // 9 entries: just grown
	M8  map[int]int                // 5000 entries
	M9  map[int]int                // mid-growth, just begun
	M10 map[int]int                // mid-growth, partly evacuated
	M11 map[string]string          // mid-growth, strings
	M12 map[int]int                // mid-growth, with deletes
	M13 map[int]int                // same-size growth
	M14 map[int]int                // many overflow buckets
	M15 map[int]int                // after deletes: emptyOne or tombstones
	M16 map[int]int                // grown, then emptied
	M17 map[string]int             // cleared by clear
	M18 map[int]int                // small, with deletes
	M19 map[int]int                // one table
	M20 map[int]string             // many tables, some shared in the directory
	M21 map[string]int             // many tables, strings
	M22 map[int]int                // made with a hint, then filled in part
	M23 map[bool]string            // bool keys
	M24 map[int8]int8              // int8 limits
	M25 map[int16]int16            // int16 limits
	M26 map[int32]int32            // int32 limits
	M27 map[int64]int64            // int64 limits
	M28 map[uint]uint              // uint limits
	M29 map[uint8]uint8            // uint8 limits
	M30 map[uint16]uint16          // uint16 limits
	M31 map[uint32]uint32          // uint32 limits
	M32 map[uint64]uint64          // uint64 limits
	M33 map[uintptr]unsafe.Pointer // uintptr and unsafe.Pointer
	M34 map[unsafe.Pointer]uintptr // unsafe.Pointer keys
	M35 map[float32]float32        // float32
	M36 map[float64]float64        // float64
	M37 map[float64]string         // NaN keys, each its own entry
	M38 map[float64]string         // -0 stored first, then found as +0 with its elem replaced and its key updated
	M39 map[complex64]complex64    // complex64
	M40 map[complex128]complex128  // complex128, a NaN key
	M41 map[string]string          // strings of any bytes
	M42 map[string]string          // very long strings
	M43 map[Name]ID                // named types
	M44 map[Flag]Ratio             // named bool and float
	M45 Registry                   // named map type
	M46 map[any]any                // interface keys of many dynamic types, nil among them
	M47 map[any]int                // interface keys, many tables
	M48 map[Shape]string           // non-empty interface keys
	M49 map[error]int              // error keys
	M50 map[string]error           // error elems
	M51 map[*Point]*Point          // pointers
	M52 map[string]*Point          // pointer elems, one nil
	M53 map[string]**Point         // pointers to pointers
	M54 map[string]*****int        // a chain of pointers longer than the depth
	M55 map[Point]Point            // struct keys and elems
	M56 map[Padded]int             // padded struct keys
	M57 map[Blank]Blank            // structs with blank fields
	M58 map[string]Nested          // nested, embedded, unexported, blank, padded
	M59 map[struct {
		A int
		b string
	}]struct{ C, D float64 } // unnamed structs
	M60  map[[2]int][3]string                     // array keys and elems
	M61  map[[2]string][0]int                     // array of strings as key, empty array as elem
	M62  map[[4]byte][4]byte                      // byte arrays
	M63  map[[2]any]string                        // array of interfaces as key
	M64  map[string][]byte                        // byte slices
	M65  map[string]Raw                           // named byte slices
	M66  map[string][]Octet                       // slices of a named byte
	M67  map[string][]string                      // slices
	M68  map[int][][]int                          // slices of slices
	M69  map[string][]any                         // slices of interfaces
	M70  map[string]time.Time                     // time.Time: zero, UTC, fixed zone, monotonic
	M71  map[string]time.Time                     // time.Time in a zone with rules
	M72  map[time.Time]time.Duration              // time.Time keys
	M73  map[string]func(int) int                 // funcs
	M74  map[string]Handler                       // named func type
	M75  map[string]chan int                      // chans: nil, unbuffered, buffered in part, closed
	M76  map[chan string]<-chan bool              // chan keys, directional elems
	M77  map[string]Queue                         // named chan type
	M78  map[Key128]Elem128                       // exactly 128 bytes: stored inline
	M79  map[Key129]int                           // key over 128 bytes: stored by pointer
	M80  map[int]BigElem                          // elem over 128 bytes: stored by pointer
	M81  map[BigKey]BigElem                       // both over 128 bytes, mid-growth
	M82  map[BigKey]BigElem                       // both over 128 bytes, small
	M83  map[string]struct{}                      // a set: zero-size elem
	M84  map[int8]struct{}                        // a small set
	M85  map[struct{}]int                         // zero-size key
	M86  map[struct{}]struct{}                    // zero-size key and elem
	M87  map[[0]int]Empty                         // empty array key, empty struct elem
	M88  map[Pair[string, int]]Pair[ID, []string] // generic types
	M89  map[string]Box[Point]                    // a generic type holding a map
	M90  map[string]map[string]int                // maps within maps
	M91  map[string]map[int]map[bool]string       // maps three deep
	M92  map[string]*map[string]int               // pointers to maps
	M93  map[string]any                           // interface elems of every kind
	M94  map[string]Shape                         // non-empty interface elems
	M95  map[string]*Node                         // cyclic pointers
	M96  map[string]interface{ Area() float64 }   // unnamed non-empty interface
	M97  map[Alignment]Alignment                  // pointer-sized fields behind a bool
	M98  map[rune]byte                            // rune and byte
	M99  map[uint16][]map[string]int              // slices of maps
	M100 map[int32]int64                          // 32-bit keys, many
	M101 map[string]bool                          // bool elems
	M102 map[uint32]struct {
		a byte
		b [7]uint16
	} // elem of odd size
	M103 map[int64]int8      // wide key, narrow elem
	M104 map[int8]int64      // narrow key, wide elem
	M105 map[[3]byte][5]byte // 3-byte keys, 5-byte elems
)

// Maps that an expression has to reach for.
var (
	P      *map[string]int
	PP     **map[string]int
	I      any
	S      Holder
	L      []map[string]int
	A      [3]map[ID]string
	H      *Holder
	Self   map[string]any
	Named  Registry
	Strukt struct{ Inner struct{ M map[int]Point } }
)

var (
	anchor     = 42
	points     = []*Point{{1, 2}, {-3, 4}}
	circle     = &Circle{2}
	errBase    = errors.New("base")
	inner      = map[string]int{"inner": 1}
	signalChan = make(chan string, 2)
)

func main() {
	truth.Start()
	fill()
	fillReached()
	print()
	truth.Ready(truth.Mode())
}

func fill() {
	M0 = map[string]int{"one": 1, "two": 2, "three": 3, "four": 4, "": 0}
	M1 = nil
	M2 = map[string]int{}
	M3 = make(map[string]int, 100)
	M4 = make(map[string]int, 1)
	M5 = filled(1, num, neg)
	M6 = filled(8, num, neg)
	M7 = filled(9, num, neg)
	M8 = filled(5000, num, neg)
	M9 = growing(make(map[int]int), 800, num, neg)
	M10 = halfGrown(make(map[int]int), 800, 30, num, neg)
	M11 = halfGrown(make(map[string]string), 200, 5, str, text)
	M12 = without(halfGrown(make(map[int]int), 3000, 20, num, neg), 0, 3000, 50, num)
	M13 = sameSize()
	M14 = manyOverflow()
	M15 = without(filled(1000, num, neg), 0, 1000, 2, num)
	M16 = without(filled(1000, num, neg), 0, 1000, 1, num)
	M17 = cleared()
	M18 = without(filled(8, num, neg), 2, 5, 1, num)
	M19 = filled(100, num, neg)
	M20 = sharedDirectory(make(map[int]string), text)
	M21 = filled(3000, str, num)
	M22 = made(1000)
	M23 = map[bool]string{true: "yes", false: "no"}
	M24 = map[int8]int8{-128: 127, 127: -128, 1: 2}
	M25 = map[int16]int16{-32768: 32767, 32767: -32768, 1: 2}
	M26 = map[int32]int32{-1 << 31: 1<<31 - 1, 1<<31 - 1: -1 << 31, 1: 2}
	M27 = map[int64]int64{-1 << 63: 1<<63 - 1, 1<<63 - 1: -1 << 63, 1: 2}
	M28 = map[uint]uint{0: 1<<64 - 1, 1<<64 - 1: 0, 1: 2}
	M29 = map[uint8]uint8{0: 255, 255: 0, 1: 2}
	M30 = map[uint16]uint16{0: 65535, 65535: 0, 1: 2}
	M31 = map[uint32]uint32{0: 1<<32 - 1, 1<<32 - 1: 0, 1: 2}
	M32 = map[uint64]uint64{0: 1<<64 - 1, 1<<64 - 1: 0, 1: 2}
	M33 = map[uintptr]unsafe.Pointer{0: nil, 0xdeadbeef: unsafe.Pointer(&anchor), 1<<64 - 1: unsafe.Pointer(anchorPointer())}
	M34 = map[unsafe.Pointer]uintptr{nil: 0, unsafe.Pointer(&anchor): uintptr(unsafe.Pointer(&anchor))}
	M35 = map[float32]float32{0: 0.1, 1.5: math.MaxFloat32, -2.25: math.SmallestNonzeroFloat32, float32(math.Inf(1)): float32(math.NaN()), float32(math.Inf(-1)): 16777216}
	M36 = map[float64]float64{0.1: 1e21, 1e-7: 1e20, math.Inf(1): math.Inf(-1), -1: math.MaxFloat64, 3: math.SmallestNonzeroFloat64, 4: math.NaN(), 5: math.Copysign(0, -1)}
	M37 = nans(20)
	M38 = signedZero()
	M39 = map[complex64]complex64{complex(1, 2): complex(-0.5, float32(math.Inf(1))), 0: complex(float32(math.NaN()), 0.1)}
	M40 = map[complex128]complex128{complex(1, 2): complex(0.1, math.Inf(-1)), complex(math.NaN(), 1): 0}
	M41 = map[string]string{"bad \xff\xfe": "ok", "ok": "\x80", "\x00": "nul", "quote\"\\": "tab\t\n", "ünïcödé 世界 🎉": "\u2028<&>", "\xed\xa0\x80": "surrogate", "trailing ": "x", "\u200bzero width": ""}
	M42 = map[string]string{strings.Repeat("k", 5000): strings.Repeat("long ", 20000), "short": strings.Repeat("é", 3000)}
	M43 = map[Name]ID{"a": 1, "b": -1}
	M44 = map[Flag]Ratio{true: 0.25, false: -1}
	M45 = Registry{"reg": 7, "istry": 8}
	M46 = mixedKeys()
	M47 = numbered(500, boxed)
	M48 = map[Shape]string{Square{2}: "square", circle: "circle", nil: "none"}
	M49 = map[error]int{errBase: 1, Code(3): 2, nil: 0}
	M50 = map[string]error{"nil": nil, "code": Code(7), "plain": errBase, "wrapped": &failure{"read", errBase}, "fmt": fmt.Errorf("outer: %w", errBase)}
	M51 = map[*Point]*Point{points[0]: points[1], points[1]: points[0], nil: nil}
	M52 = map[string]*Point{"nil": nil, "a": points[0], "b": points[1]}
	M53 = map[string]**Point{"twice": &points[0], "nil": nil}
	M54 = map[string]*****int{"five": five()}
	M55 = map[Point]Point{{1, 2}: {3, 4}, {-1, 0}: {}, {}: {5, 5}}
	M56 = map[Padded]int{{1, 2, 3}: 1, {-1, -2, -3}: 2, {}: 3}
	M57 = map[Blank]Blank{{A: 1, B: "x"}: {A: 2, B: "y"}, {}: {}}
	M58 = map[string]Nested{"full": nested(), "zero": {}}
	M59 = map[struct {
		A int
		b string
	}]struct{ C, D float64 }{{1, "x"}: {0.5, -0.5}}
	M60 = map[[2]int][3]string{{1, 2}: {"a", "b", "c"}, {}: {}}
	M61 = map[[2]string][0]int{{"a", "b"}: {}}
	M62 = map[[4]byte][4]byte{{127, 0, 0, 1}: {255, 255, 255, 0}, {}: {}}
	M63 = map[[2]any]string{{1, "a"}: "x", {nil, 2.5}: "y"}
	M64 = map[string][]byte{"nil": nil, "empty": {}, "bytes": []byte("any \x00\xff")}
	M65 = map[string]Raw{"named": Raw("raw"), "nil": nil}
	M66 = map[string][]Octet{"octets": {1, 2, 255}}
	M67 = map[string][]string{"nil": nil, "empty": {}, "two": {"a", "b"}, "part": make([]string, 1, 10)}
	M68 = map[int][][]int{1: {{1, 2}, nil, {}}, 2: nil}
	M69 = map[string][]any{"mix": {1, "a", nil, 2.5, []int{1}, map[string]bool{"t": true}, points[0], Point{7, 8}, ID(4), true, int8(-1)}}
	M70 = times()
	M71 = zonedTimes()
	M72 = map[time.Time]time.Duration{time.Unix(0, 1).UTC(): time.Second, time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC): -1}
	M73 = map[string]func(int) int{"double": double, "square": square, "nil": nil}
	M74 = map[string]Handler{"double": double}
	M75 = chans()
	M76 = map[chan string]<-chan bool{signalChan: make(chan bool, 3), nil: nil}
	M77 = map[string]Queue{"queue": make(Queue, 5)}
	M78 = filled(30, key128, elem128)
	M79 = filled(30, key129, num)
	M80 = filled(30, num, bigElem)
	M81 = halfGrown(make(map[BigKey]BigElem), 100, 3, bigKey, bigElem)
	M82 = filled(3, bigKey, bigElem)
	M83 = filled(200, str, empty)
	M84 = map[int8]struct{}{1: {}, -1: {}}
	M85 = map[struct{}]int{{}: 42}
	M86 = map[struct{}]struct{}{{}: {}}
	M87 = map[[0]int]Empty{{}: {}}
	M88 = map[Pair[string, int]]Pair[ID, []string]{{"a", 1}: {2, []string{"x"}}, {}: {}}
	M89 = map[string]Box[Point]{"box": {map[string]Point{"p": {1, 1}}}, "none": {}}
	M90 = map[string]map[string]int{"nil": nil, "empty": {}, "two": {"a": 1, "b": 2}, "many": filled(300, str, num)}
	M91 = map[string]map[int]map[bool]string{"a": {1: {true: "t"}, 2: nil}, "b": {}}
	M92 = map[string]*map[string]int{"p": &inner, "nil": nil}
	M93 = map[string]any{"nil": nil, "int": 1, "bool": true, "float": 1.5, "string": "s", "bytes": []byte{1, 2}, "struct": Point{1, 2}, "pointer": points[0], "map": map[string]any{"x": 1}, "error": errBase, "func": double, "chan": signalChan, "complex": complex(1, -1), "time": time.Unix(1, 0).UTC(), "nilptr": (*Point)(nil), "array": [2]int8{1, 2}, "rune": 'x', "uintptr": uintptr(9), "onefield": struct{ P *Point }{points[1]}, "onearray": [1]*Point{points[1]}, "nilmap": map[string]int(nil), "shape": Shape(Square{3}), "generic": Pair[string, bool]{"g", true}, "empty": struct{}{}, "byte": byte(200), "big": int64(1)<<62 + 1}
	M94 = map[string]Shape{"square": Square{3}, "circle": circle, "nil": nil, "nilptr": (*Circle)(nil)}
	M95 = cycle()
	M96 = map[string]interface{ Area() float64 }{"s": Square{1}}
	M97 = map[Alignment]Alignment{{true, nil, 1}: {false, unsafe.Pointer(&anchor), 2}}
	M98 = map[rune]byte{'a': 'b', '世': 255}
	M99 = map[uint16][]map[string]int{1: {nil, {"x": 1}}, 2: {}}
	M100 = filled(2000, func(i int) int32 { return int32(i) }, func(i int) int64 { return int64(i) << 33 })
	M101 = map[string]bool{"t": true, "f": false}
	M102 = filled(50, func(i int) uint32 { return uint32(i) }, odd)
	M103 = filled(300, func(i int) int64 { return int64(i) }, func(i int) int8 { return int8(i) })
	M104 = filled(100, func(i int) int8 { return int8(i) }, func(i int) int64 { return int64(i) })
	M105 = filled(100, func(i int) [3]byte { return [3]byte{byte(i), 1} }, func(i int) [5]byte { return [5]byte{byte(i)} })
}

func print() {
	truth.Map("main.M0", &M0, "a few entries")
	truth.Map("main.M1", &M1, "nil")
	truth.Map("main.M2", &M2, "empty")
	truth.Map("main.M3", &M3, "made with a hint, empty")
	truth.Map("main.M4", &M4, "made with a small hint, empty")
	truth.Map("main.M5", &M5, "1 entry")
	truth.Map("main.M6", &M6, "8 entries: one full bucket or group")
	truth.Map("main.M7", &M7, "9 entries: just grown")
	truth.Map("main.M8", &M8, "5000 entries")
	truth.Map("main.M9", &M9, "mid-growth, just begun")
	truth.Map("main.M10", &M10, "mid-growth, partly evacuated")
	truth.Map("main.M11", &M11, "mid-growth, strings")
	truth.Map("main.M12", &M12, "mid-growth, with deletes")
	truth.Map("main.M13", &M13, "same-size growth")
	truth.Map("main.M14", &M14, "many overflow buckets")
	truth.Map("main.M15", &M15, "after deletes: emptyOne or tombstones")
	truth.Map("main.M16", &M16, "grown, then emptied")
	truth.Map("main.M17", &M17, "cleared by clear")
	truth.Map("main.M18", &M18, "small, with deletes")
	truth.Map("main.M19", &M19, "one table")
	truth.Map("main.M20", &M20, "many tables, some shared in the directory")
	truth.Map("main.M21", &M21, "many tables, strings")
	truth.Map("main.M22", &M22, "made with a hint, then filled in part")
	truth.Map("main.M23", &M23, "bool keys")
	truth.Map("main.M24", &M24, "int8 limits")
	truth.Map("main.M25", &M25, "int16 limits")
	truth.Map("main.M26", &M26, "int32 limits")
	truth.Map("main.M27", &M27, "int64 limits")
	truth.Map("main.M28", &M28, "uint limits")
	truth.Map("main.M29", &M29, "uint8 limits")
	truth.Map("main.M30", &M30, "uint16 limits")
	truth.Map("main.M31", &M31, "uint32 limits")
	truth.Map("main.M32", &M32, "uint64 limits")
	truth.Map("main.M33", &M33, "uintptr and unsafe.Pointer")
	truth.Map("main.M34", &M34, "unsafe.Pointer keys")
	truth.Map("main.M35", &M35, "float32")
	truth.Map("main.M36", &M36, "float64")
	truth.Map("main.M37", &M37, "NaN keys, each its own entry")
	truth.Map("main.M38", &M38, "-0 stored first, then found as +0 with its elem replaced and its key updated")
	truth.Map("main.M39", &M39, "complex64")
	truth.Map("main.M40", &M40, "complex128, a NaN key")
	truth.Map("main.M41", &M41, "strings of any bytes")
	truth.Map("main.M42", &M42, "very long strings")
	truth.Map("main.M43", &M43, "named types")
	truth.Map("main.M44", &M44, "named bool and float")
	truth.Map("main.M45", &M45, "named map type")
	truth.Map("main.M46", &M46, "interface keys of many dynamic types, nil among them")
	truth.Map("main.M47", &M47, "interface keys, many tables")
	truth.Map("main.M48", &M48, "non-empty interface keys")
	truth.Map("main.M49", &M49, "error keys")
	truth.Map("main.M50", &M50, "error elems")
	truth.Map("main.M51", &M51, "pointers")
	truth.Map("main.M52", &M52, "pointer elems, one nil")
	truth.Map("main.M53", &M53, "pointers to pointers")
	truth.Map("main.M54", &M54, "a chain of pointers longer than the depth")
	truth.Map("main.M55", &M55, "struct keys and elems")
	truth.Map("main.M56", &M56, "padded struct keys")
	truth.Map("main.M57", &M57, "structs with blank fields")
	truth.Map("main.M58", &M58, "nested, embedded, unexported, blank, padded")
	truth.Map("main.M59", &M59, "unnamed structs")
	truth.Map("main.M60", &M60, "array keys and elems")
	truth.Map("main.M61", &M61, "array of strings as key, empty array as elem")
	truth.Map("main.M62", &M62, "byte arrays")
	truth.Map("main.M63", &M63, "array of interfaces as key")
	truth.Map("main.M64", &M64, "byte slices")
	truth.Map("main.M65", &M65, "named byte slices")
	truth.Map("main.M66", &M66, "slices of a named byte")
	truth.Map("main.M67", &M67, "slices")
	truth.Map("main.M68", &M68, "slices of slices")
	truth.Map("main.M69", &M69, "slices of interfaces")
	truth.Map("main.M70", &M70, "time.Time: zero, UTC, fixed zone, monotonic")
	truth.Map("main.M71", &M71, "time.Time in a zone with rules")
	truth.Map("main.M72", &M72, "time.Time keys")
	truth.Map("main.M73", &M73, "funcs")
	truth.Map("main.M74", &M74, "named func type")
	truth.Map("main.M75", &M75, "chans: nil, unbuffered, buffered in part, closed")
	truth.Map("main.M76", &M76, "chan keys, directional elems")
	truth.Map("main.M77", &M77, "named chan type")
	truth.Map("main.M78", &M78, "exactly 128 bytes: stored inline")
	truth.Map("main.M79", &M79, "key over 128 bytes: stored by pointer")
	truth.Map("main.M80", &M80, "elem over 128 bytes: stored by pointer")
	truth.Map("main.M81", &M81, "both over 128 bytes, mid-growth")
	truth.Map("main.M82", &M82, "both over 128 bytes, small")
	truth.Map("main.M83", &M83, "a set: zero-size elem")
	truth.Map("main.M84", &M84, "a small set")
	truth.Map("main.M85", &M85, "zero-size key")
	truth.Map("main.M86", &M86, "zero-size key and elem")
	truth.Map("main.M87", &M87, "empty array key, empty struct elem")
	truth.Map("main.M88", &M88, "generic types")
	truth.Map("main.M89", &M89, "a generic type holding a map")
	truth.Map("main.M90", &M90, "maps within maps")
	truth.Map("main.M91", &M91, "maps three deep")
	truth.Map("main.M92", &M92, "pointers to maps")
	truth.Map("main.M93", &M93, "interface elems of every kind")
	truth.Map("main.M94", &M94, "non-empty interface elems")
	truth.Map("main.M95", &M95, "cyclic pointers")
	truth.Map("main.M96", &M96, "unnamed non-empty interface")
	truth.Map("main.M97", &M97, "pointer-sized fields behind a bool")
	truth.Map("main.M98", &M98, "rune and byte")
	truth.Map("main.M99", &M99, "slices of maps")
	truth.Map("main.M100", &M100, "32-bit keys, many")
	truth.Map("main.M101", &M101, "bool elems")
	truth.Map("main.M102", &M102, "elem of odd size")
	truth.Map("main.M103", &M103, "wide key, narrow elem")
	truth.Map("main.M104", &M104, "narrow key, wide elem")
	truth.Map("main.M105", &M105, "3-byte keys, 5-byte elems")
	truth.Map("*main.P", P, "behind a pointer")
	truth.Map("**main.PP", *PP, "behind two pointers")
	truth.Interface("main.I", &I, "in an interface")
	truth.Map("main.S.Users", &S.Users, "in a struct")
	truth.Map("main.S.hidden", &S.hidden, "in an unexported field")
	truth.Map("main.S.Deep.Cache", &S.Deep.Cache, "in a nested struct")
	truth.Map("main.S.Table[1]", &S.Table[1], "in an array in a struct")
	truth.Map("main.S.Link.Users", &S.Link.Users, "in a struct behind a pointer")
	truth.Map("main.L[0]", &L[0], "in a slice, nil")
	truth.Map("main.L[1]", &L[1], "in a slice")
	truth.Map("main.A[2]", &A[2], "in an array")
	truth.Map("main.H.Users", &H.Users, "in a struct behind a pointer variable")
	truth.Unlisted("main.Self", &Self, "contains itself")
	truth.Map("main.Named", &Named, "named map type")
	truth.Map("main.Strukt.Inner.M", &Strukt.Inner.M, "in an unnamed struct")
}

func fillReached() {
	P = &inner
	PP = &P
	I = map[string]int{"in": 1, "interface": 2}
	S.Users = filled(12, str, num)
	S.hidden = map[ID]*Point{1: points[0], 2: nil}
	S.Deep.Cache = map[int]string{1: "deep"}
	S.Table[1] = map[string]bool{"x": true}
	S.Link = &Holder{Users: map[string]int{"linked": 1}}
	L = []map[string]int{nil, {"l": 1}}
	A[2] = map[ID]string{1: "a"}
	H = &Holder{Users: map[string]int{"h": 1}}
	Self = map[string]any{"n": 1}
	Self["self"] = Self
	Named = Registry{"named": 1}
	Strukt.Inner.M = map[int]Point{1: {2, 3}}
}

func num(i int) int         { return i }
func neg(i int) int         { return -i }
func str(i int) string      { return fmt.Sprintf("key-%d", i) }
func text(i int) string     { return strings.Repeat("v", i%40) }
func empty(int) struct{}    { return struct{}{} }
func anchorPointer() *int   { return &anchor }
func bigKey(i int) BigKey   { return BigKey{[20]int64{0: int64(i), 19: -int64(i)}} }
func bigElem(i int) BigElem { return BigElem{str(i), [40]int32{39: int32(i)}} }
func elem128(i int) Elem128 { return Elem128{15: uint64(i)} }

func key128(i int) (k Key128) { k[0], k[127] = byte(i), byte(i); return }
func key129(i int) (k Key129) { k[0], k[128] = byte(i), byte(i); return }

func odd(i int) struct {
	a byte
	b [7]uint16
} {
	return struct {
		a byte
		b [7]uint16
	}{byte(i), [7]uint16{6: uint16(i)}}
}

// numbered is filled for keys in interfaces, which are no type argument for a comparable one before Go 1.20.
func numbered(n int, key func(int) any) map[any]int {
	m := make(map[any]int)
	for i := 0; i < n; i++ {
		m[key(i)] = i
	}
	return m
}

// boxed makes keys whose dynamic types take turns.
func boxed(i int) any {
	switch i % 6 {
	case 0:
		return i
	case 1:
		return str(i)
	case 2:
		return float64(i) / 2
	case 3:
		return Point{i, -i}
	case 4:
		return ID(i)
	}
	return [2]any{i, str(i)}
}

func mixedKeys() map[any]any {
	return map[any]any{
		nil: nil, 1: "int", int8(1): int16(1), uint64(1): 1.5, "1": '1', true: false, 1.5: "float",
		Point{1, 2}: Point{3, 4}, points[0]: points[1], [2]string{"a", "b"}: []int{1}, ID(1): Name("id"),
		complex(1, 1): nil, struct{}{}: struct{}{}, error(Code(1)): errBase, circle: Shape(circle),
		signalChan: double, math.NaN(): "nan", Pair[string, int]{"p", 1}: map[string]int{"m": 1},
		unsafe.Pointer(&anchor): uintptr(5), [1]any{nil}: [1]*Point{points[0]},
	}
}

// churned entries nearly fill 64 buckets, for the load factor of 6 in Go 1.21 and of 6.5 later.
const churned = 380

func sameSize() map[int]int {
	m := make(map[int]int, churned)
	return churn(m, churned, 200, func() bool { return truth.Describe(m).SameSize() })
}

func manyOverflow() map[int]int {
	m := make(map[int]int, churned)
	return churn(m, churned, 60, func() bool {
		overflow, buckets := truth.Describe(m).Overflow()
		return buckets > 0 && overflow*8 >= buckets*7
	})
}

func cleared() map[string]int {
	m := filled(500, str, num)
	// The compiler makes this loop one call of mapclear.
	for key := range m {
		delete(m, key)
	}
	return m
}

func made(hint int) map[int]int {
	m := make(map[int]int, hint)
	for i := 0; i < hint/3; i++ {
		m[i] = i
	}
	return m
}

func nans(n int) map[float64]string {
	m := map[float64]string{1: "one"}
	for i := 0; i < n; i++ {
		m[math.NaN()] = str(i)
	}
	return m
}

func signedZero() map[float64]string {
	m := map[float64]string{math.Copysign(0, -1): "negative"}
	m[0] = "positive"
	m[1] = "one"
	return m
}

func five() *****int {
	a := &anchor
	b := &a
	c := &b
	d := &c
	return &d
}

func nested() Nested {
	n := Nested{
		Base: Base{7, "kind"}, Point: points[0], small: -1, Wide: 1 << 40, List: []string{"a", "b"},
		Grid: [2][3]int8{{1, 2, 3}, {-1, -2, -3}}, Any: Point{5, 6}, Err: errBase, Inner: map[string]int{"i": 1},
	}
	n.tail.a, n.tail.b = true, 9
	return n
}

func times() map[string]time.Time {
	return map[string]time.Time{
		"zero": {}, "utc": time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC),
		"fixed": time.Date(2000, 1, 1, 0, 0, 0, 0, time.FixedZone("X", -5*3600-30*60)),
		"now":   time.Now().UTC(), "monotonic": time.Now().In(time.UTC), "early": time.Unix(-1<<33, 5).UTC(),
		"stripped": time.Unix(1700000000, 0).Round(0).UTC(), "local monotonic": time.Now(),
	}
}

func zonedTimes() map[string]time.Time {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return map[string]time.Time{
		"winter": time.Date(2024, 1, 15, 12, 0, 0, 0, berlin), "summer": time.Date(2024, 7, 15, 12, 0, 0, 0, berlin),
		"1985": time.Date(1985, 7, 1, 0, 0, 0, 0, berlin), "1880": time.Date(1880, 1, 1, 0, 0, 0, 0, berlin),
	}
}

func chans() map[string]chan int {
	partly, closed := make(chan int, 8), make(chan int, 1)
	partly <- 1
	partly <- 2
	close(closed)
	return map[string]chan int{"nil": nil, "unbuffered": make(chan int), "partly": partly, "closed": closed}
}

func cycle() map[string]*Node {
	a, b := &Node{Name: "a"}, &Node{Name: "b"}
	a.Next, b.Next = b, a
	lone := &Node{Name: "lone"}
	lone.Next = lone
	a.Side = map[string]*Node{"b": b, "nil": nil}
	return map[string]*Node{"a": a, "lone": lone, "nil": nil}
}
