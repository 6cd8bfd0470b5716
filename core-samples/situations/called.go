//go:build cgosample

package main

// void situations_call(int depth);
// void situations_thread(int depth);
import "C"

//export situationsCalled
func situationsCalled(depth C.int) {
	if depth == 0 {
		park("callback")
		return
	}
	C.situations_call(depth - 1)
}

//export situationsCalledByThread
func situationsCalledByThread(depth C.int) {
	if depth == 0 {
		park("callback-of-thread")
		return
	}
	C.situations_call(depth - 1)
}

func init() {
	more = append(more, func() {
		start(func() { C.situations_call(0) })
		start(func() { C.situations_call(1) })
		parked.Add(1)
		C.situations_thread(0)
	})
}
