//go:build go1.23

package main

import "iter"

// more switches between coroutines, which has events of its own since Go 1.23.
func more(n int) {
	seq := func(yield func(int) bool) {
		for i := 0; i < n/10+3; i++ {
			if !yield(i) {
				return
			}
		}
	}
	next, stop := iter.Pull(iter.Seq[int](seq))
	defer stop()
	for {
		v, ok := next()
		if !ok {
			return
		}
		sink += v
	}
}
