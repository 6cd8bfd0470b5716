//go:build !go1.24

package main

// cleaned has nothing to do: there are no cleanups.
func cleaned(*int, int) {}
