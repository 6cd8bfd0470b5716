// Maps that are broken on purpose, each in one way, for tests of what a reader says of them.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

type node struct{ m *map[string]int }

var (
	Sound      = fill(1000)
	NotAMap    = 42
	NilPointer *map[string]int
	NilInside  node
	Garbage    map[int64]int64 // points at bytes that are no header
	Unmapped   map[int64]int64 // points where nothing is
	AbsurdB    map[int64]int64 // 2^60 buckets, or directory depth 60
	HugeB      map[int64]int64 // 2^40 buckets: an address range, but not memory
	BadCount   map[int64]int64 // count 2^60
	OffByOne   map[int64]int64 // count says one more than there is
	Cycle      map[int64]int64 // classic: an overflow chain that returns to itself
	BadTable   map[int64]int64 // a bucket array or a table that is not in memory
	BadChain   map[int64]int64 // classic: an overflow pointer out of memory; Swiss: groups out of memory
	Writing    map[int64]int64 // the flag of a writer at work
	KeyChanged map[int64]int64 // a key was changed behind the map's back
	Twice      map[int64]int64 // a key was made equal to another
	BadByte    map[int64]int64 // a tophash or control byte was overwritten
)

var noise [64]uint64

func fill(n int) map[int64]int64 {
	m := map[int64]int64{}
	for i := 0; i < n; i++ {
		m[int64(i)] = int64(i) * 10
	}
	return m
}

func header(m *map[int64]int64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(m)) }

func at[T any](base unsafe.Pointer, offset uintptr) *T { return (*T)(unsafe.Add(base, offset)) }

// swiss says whether this program's maps are Swiss tables.
func swiss() bool {
	version := runtime.Version()
	minor, _ := strconv.Atoi(strings.SplitN(strings.TrimPrefix(version, "go1."), ".", 2)[0])
	return minor >= 24 && !strings.Contains(version, "noswissmap")
}

func main() {
	debug.SetGCPercent(-1)
	debug.SetTraceback("crash")
	for i := range noise {
		noise[i] = 0x0123456789abcdef * uint64(i+1)
	}
	*(*unsafe.Pointer)(unsafe.Pointer(&Garbage)) = unsafe.Pointer(&noise)
	*(*uintptr)(unsafe.Pointer(&Unmapped)) = 0x10
	for _, m := range []*map[int64]int64{&AbsurdB, &HugeB, &BadCount, &OffByOne, &Cycle, &BadTable, &BadChain, &Writing} {
		*m = fill(2000)
	}
	*at[uint64](header(&BadCount), 0) = 1 << 60
	*at[uint64](header(&OffByOne), 0)++
	if swiss() {
		*at[uint8](header(&AbsurdB), 32) = 60
		*at[uint64](header(&AbsurdB), 24) = 1 << 60
		*at[uint8](header(&HugeB), 32) = 40
		*at[uint64](header(&HugeB), 24) = 1 << 40
		*at[uint8](header(&Writing), 34) = 1
		directory := *at[unsafe.Pointer](header(&BadTable), 16)
		*at[uint64](directory, 8) = 0x7fff00000000
		directory = *at[unsafe.Pointer](header(&BadChain), 16)
		table := *at[unsafe.Pointer](directory, 0)
		*at[uint64](table, 16) = 0x7fff00000000
	} else {
		*at[uint8](header(&AbsurdB), 9) = 60
		*at[uint8](header(&HugeB), 9) = 40
		*at[uint8](header(&Writing), 8) |= 4
		*at[uint64](header(&BadTable), 16) = 0x7fff00000000
		// map[int64]int64: 144-byte buckets, the overflow pointer in the last word.
		buckets := *at[unsafe.Pointer](header(&Cycle), 16)
		*at[unsafe.Pointer](unsafe.Add(buckets, 3*144), 136) = unsafe.Add(buckets, 3*144)
		buckets = *at[unsafe.Pointer](header(&BadChain), 16)
		*at[uint64](unsafe.Add(buckets, 5*144), 136) = 0x7fff00000000
	}
	for _, m := range []*map[int64]int64{&KeyChanged, &Twice, &BadByte} {
		*m = fill(5)
	}
	// map[int64]int64: key i of a bucket is at 8+8*i; of a group at 8+16*i. Five entries are in one of either.
	key := func(m *map[int64]int64, i uintptr) *int64 {
		if swiss() {
			return at[int64](*at[unsafe.Pointer](header(m), 16), 8+16*i)
		}
		return at[int64](*at[unsafe.Pointer](header(m), 16), 8+8*i)
	}
	control := func(m *map[int64]int64, i uintptr) *uint8 { return at[uint8](*at[unsafe.Pointer](header(m), 16), i) }
	*key(&KeyChanged, 2) = 1000
	*key(&Twice, 3) = *key(&Twice, 1)
	*control(&Twice, 3) = *control(&Twice, 1)
	*control(&BadByte, 4) ^= 0x15
	for _, m := range []struct {
		name string
		m    *map[int64]int64
	}{{"Sound", &Sound}, {"KeyChanged", &KeyChanged}, {"Twice", &Twice}, {"BadByte", &BadByte}, {"OffByOne", &OffByOne},
		{"Writing", &Writing}, {"BadChain", &BadChain}, {"Cycle", &Cycle}} {
		fmt.Printf(`{"name":"main.%s","type":"map[int64]int64","address":"%p"}`+"\n", m.name, header(m.m))
	}
	fmt.Printf("READY pid=%d\n", os.Getpid())
	if len(os.Args) > 1 && os.Args[1] == "abort" {
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
	}
	time.Sleep(time.Hour)
	fmt.Println(NotAMap, NilPointer, NilInside, Sound)
}
