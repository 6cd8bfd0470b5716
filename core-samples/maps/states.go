package main

import "mapscope.example/samples/truth"

// The functions here bring a map into a wanted state of its layout. Where the state exists in one
// layout only, the other layout gets a map of the same history.

// pick chooses between a count for Swiss tables and one for classic buckets.
func pick(swiss, classic int) int {
	if truth.Swiss {
		return swiss
	}
	return classic
}

// growing adds entries until a classic map is caught while it moves to a bigger bucket array.
func growing[K comparable, V any](m map[K]V, atLeast int, key func(int) K, elem func(int) V) map[K]V {
	for i := 0; i < 100*atLeast; i++ {
		m[key(i)] = elem(i)
		if i+1 >= atLeast && (truth.Swiss || truth.Describe(m).Growing()) {
			return m
		}
	}
	panic("never caught growing")
}

// halfGrown stops later in the move: some old buckets are evacuated, some are not.
func halfGrown[K comparable, V any](m map[K]V, atLeast, further int, key func(int) K, elem func(int) V) map[K]V {
	growing(m, atLeast, key, elem)
	n := len(m)
	for i := n; i < n+further; i++ {
		m[key(i)] = elem(i)
	}
	if !truth.Swiss && !truth.Describe(m).Growing() {
		panic("growth ended too soon")
	}
	return m
}

// churn fills and empties a map with ever new keys, which piles up overflow buckets
// (tombstones in a Swiss map), until the state is reached.
func churn(m map[int]int, n, rounds int, reached func() bool) map[int]int {
	next := 1
	m[0] = 0
	for round := 0; round < rounds; round++ {
		first := next
		for ; next < first+n; next++ {
			m[next] = -next
			if reached() {
				return m
			}
		}
		for i := first; i < next; i++ {
			delete(m, i)
		}
	}
	if !truth.Swiss {
		panic("never reached the state")
	}
	for i := 1; i < n/2; i++ {
		m[i] = i
	}
	return m
}

// sharedDirectory adds entries until one Swiss table stands more than once in the directory.
func sharedDirectory(m map[int]string, elem func(int) string) map[int]string {
	for i := 0; i < pick(1<<20, 3000); i++ {
		m[i*7] = elem(i)
		if truth.Describe(m).SharedTable() && i > 3000 {
			return m
		}
	}
	if truth.Swiss {
		panic("no table was ever shared")
	}
	return m
}

func filled[K comparable, V any](n int, key func(int) K, elem func(int) V) map[K]V {
	m := make(map[K]V)
	for i := 0; i < n; i++ {
		m[key(i)] = elem(i)
	}
	return m
}

func without[K comparable, V any](m map[K]V, from, to, step int, key func(int) K) map[K]V {
	for i := from; i < to; i += step {
		delete(m, key(i))
	}
	return m
}
