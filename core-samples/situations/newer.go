//go:build go1.23

package main

import (
	"iter"
	"runtime"
)

var replies = map[string]chan int{"order-1": make(chan int)}

func init() {
	more = append(more, func() {
		start(func() { consumer("order-1 ") })
		start(abandoned)
		start(unstarted)
		start(func() {
			runtime.LockOSThread()
			consumer("order-2")
		})
	})
}

// answers waits inside the coroutine for a reply that is looked up under the wrong key.
func answers(key string) iter.Seq[int] {
	return func(yield func(int) bool) {
		in("coroutine-waits")
		parked.Done()
		yield(<-replies[key])
	}
}

// consumer waits for the coroutine.
func consumer(key string) {
	next, stop := iter.Pull(answers(key))
	defer stop()
	in("waits-for-coroutine")
	next()
}

func count(yield func(int) bool) {
	in("coroutine-idle")
	for i := 0; yield(i); i++ {
	}
}

// abandoned has a coroutine that nobody asks for more.
func abandoned() {
	next, stop := iter.Pull(count)
	next()
	park("has-coroutine")
	stop()
}

// unstarted has a coroutine that was never asked.
func unstarted() {
	_, stop := iter.Pull(count)
	park("has-coroutine")
	stop()
}
