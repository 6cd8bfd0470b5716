// Command locals holds maps in local variables, arguments and results of several frames of the main
// goroutine, which stays in a system call with all these frames on its thread's stack. The name in
// the truth is "FUNCTION:VARIABLE": select that frame, then ask for the variable. In an optimised
// build a debugger may lack some of them; none may be shown wrong.
package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

type Store struct {
	items map[string]int
	index map[int][]string
}

// Total keeps the compiler from dropping what the frames hold.
var Total int

// stackReserve is more than the truth printer needs, so that the stack never moves below it.
const stackReserve = 1 << 20

func init() { runtime.LockOSThread() }

func main() {
	truth.Start()
	growStack()
	outer(map[string]int{"outer": 1, "argument": 2}, 3)
	os.Exit(3)
}

//go:noinline
func growStack() byte {
	var room [stackReserve]byte
	room[len(os.Args)] = 1
	return room[0]
}

// hidden prints a map without making it escape: a small map stays on the stack, header and all.
func hidden[K comparable, V any](name string, m *map[K]V, note string) {
	address := uintptr(unsafe.Pointer(m))
	truth.Map(name, *(**map[K]V)(unsafe.Pointer(&address)), note)
}

//go:noinline
func outer(argument map[string]int, n int) {
	onStack := map[int]int{1: 10, 2: 20, n: 30}
	hidden("main.outer:argument", &argument, "an argument")
	hidden("main.outer:onStack", &onStack, "on the stack")
	Total += middle(&Store{items: argument, index: map[int][]string{1: {"a"}}}, onStack)
	Total += len(argument) + len(onStack)
}

//go:noinline
func middle(store *Store, argument map[int]int) int {
	var none map[string]bool
	grown := make(map[int64]string)
	for i := int64(0); i < 200; i++ {
		grown[i] = string(rune('a' + i%26))
	}
	pointer := &grown
	hidden("main.middle:store.items", &store.items, "in a struct behind an argument")
	hidden("main.middle:store.index", &store.index, "in a struct behind an argument")
	hidden("main.middle:argument", &argument, "an argument")
	hidden("main.middle:none", &none, "nil")
	hidden("main.middle:grown", &grown, "a local, on the heap by its size")
	hidden("main.middle:*pointer", pointer, "behind a local pointer")
	captured := map[string]string{"captured": "by a closure"}
	result := func() int {
		hidden("main.middle:captured", &captured, "captured by a closure")
		return inner(captured, 2) + len(captured)
	}()
	return result + len(none) + len(*pointer) + len(store.items) + len(argument)
}

//go:noinline
func inner(argument map[string]string, level int) int {
	local := map[int]int{level: level * level}
	if level > 0 {
		return inner(argument, level-1) + len(local) + len(argument)
	}
	key := "captured"
	hidden("main.inner:local", &local, "the innermost of three frames of one function")
	hidden("main.inner:argument", &argument, "passed down")
	park()
	return len(local) + len(argument[key])
}

// park stays in a system call, so that the frames above are those of a thread.
//
//go:noinline
func park() {
	truth.Announce()
	switch truth.Mode() {
	case "exit":
		os.Exit(0)
	case "abort":
		truth.AbortSoon()
	}
	time.AfterFunc(30*time.Minute, func() { os.Exit(3) })
	for {
		syscall.Syscall(syscall.SYS_PAUSE, 0, 0, 0)
	}
}
