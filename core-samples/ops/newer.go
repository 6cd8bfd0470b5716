//go:build go1.21

package main

import "sync"

// lastSyncOp is the last of the operations that sync.Map has.
const lastSyncOp = compareAndSwap

func empty[K comparable, V any](m map[K]V) { clear(m) }

func exchange(m *sync.Map, key, elem any)             { m.Swap(key, elem) }
func exchangeIf(m *sync.Map, key, old, elem any) bool { return m.CompareAndSwap(key, old, elem) }

// newer is the subjects whose keys Go 1.19 cannot take as a type argument, or cannot clear at once.
func newer(w *World, label func(string) string) []subject {
	return []subject{
		subjectOf(label("Float"), &w.Float, func(i int) float64 { return float64(i) / 2 }, 7),
		subjectOf(label("Any"), &w.Any, anyKey, 9),
	}
}
