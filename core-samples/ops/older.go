//go:build !go1.21

package main

import "sync"

const lastSyncOp = loadAndDelete

// empty is one call of mapclear: the compiler knows these loops, outside of generic code.
func empty(m any) {
	switch m := m.(type) {
	case map[int32]int:
		for key := range m {
			delete(m, key)
		}
	case map[uint32]string:
		for key := range m {
			delete(m, key)
		}
	case map[int64]int64:
		for key := range m {
			delete(m, key)
		}
	case map[Point]int:
		for key := range m {
			delete(m, key)
		}
	case map[*int]int:
		for key := range m {
			delete(m, key)
		}
	case map[string]int:
		for key := range m {
			delete(m, key)
		}
	case map[Name]struct{}:
		for key := range m {
			delete(m, key)
		}
	case map[uint8]int:
		for key := range m {
			delete(m, key)
		}
	case map[Mixed]int:
		for key := range m {
			delete(m, key)
		}
	case map[Key200]int:
		for key := range m {
			delete(m, key)
		}
	case map[int64][200]byte:
		for key := range m {
			delete(m, key)
		}
	case map[string][1100]byte:
		for key := range m {
			delete(m, key)
		}
	default:
		panic("a map that cannot be cleared at once")
	}
}

func exchange(m *sync.Map, key, elem any)             { panic("not in this version") }
func exchangeIf(m *sync.Map, key, old, elem any) bool { panic("not in this version") }

func newer(*World, func(string) string) []subject { return nil }
