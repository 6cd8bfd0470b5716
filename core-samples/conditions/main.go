// Command conditions gives breakpoint conditions something to be wrong about: Add is called 300 times, Show once, and at the
// end the program prints what held at each call. With the argument "background" another goroutine lets Growing grow meanwhile;
// with a number Add is called so often.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Set is what Add adds to.
type Set struct{ data map[string]bool }

// Lens holds len(s.data) at each call of Add; Known the names that were there already.
var (
	Lens  []int
	Known []string
)

// Left and Right are not alike; Current is one of them.
var (
	Left    = map[string]int{"a": 1, "b": 2}
	Right   = map[string]int{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
	Current = Left
)

// Growing grows, and Grown is how far, in mode "background".
var (
	Growing = map[int]int{}
	Grown   atomic.Int64
)

//go:noinline
func (s *Set) Add(name string) {
	Lens = append(Lens, len(s.data))
	if s.data[name] {
		Known = append(Known, name)
	}
	s.data[name] = true
}

// Fill is for a debugger to call.
//
//go:noinline
func Fill() {
	Left["c"] = 3
}

// Show has a map in its frame line.
//
//go:noinline
func Show(m map[string]bool) int {
	return len(m)
}

func main() {
	fmt.Println(len(Current), len(Growing), Grown.Load())
	if len(os.Args) > 1 && os.Args[1] == "background" {
		go func() {
			for i := 0; ; i++ {
				Growing[i] = i
				Grown.Store(int64(i))
				time.Sleep(time.Millisecond)
			}
		}()
	}
	if len(os.Args) > 1 && os.Args[1] == "fill" {
		Fill()
	}
	set := &Set{data: map[string]bool{}}
	shown, times := 0, 300
	if len(os.Args) > 1 {
		if n, err := strconv.Atoi(os.Args[1]); err == nil {
			times = n
		}
	}
	for i := 0; i < times; i++ {
		set.Add(fmt.Sprint("k", i%250))
		if i == 7 {
			shown = Show(set.data)
		}
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"lens": Lens, "known": Known, "shown": shown})
}
