//go:build go1.24

package main

import "runtime"

// cleaned gives an object a cleanup, whose argument is a map that nothing else leads to.
func cleaned(number *int, n int) {
	argument := map[uint16]int8{}
	for i := 0; i <= n%40; i++ {
		argument[uint16(i)] = int8(n)
	}
	runtime.AddCleanup(number, func(map[uint16]int8) {}, argument)
	say(argument)
}
