// Command herd parks as many goroutines as its second argument says (100000), half of them on channels that a map
// holds; a third argument is how many entries that map has beside (0).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"mapscope.example/samples/truth"
)

var (
	replies = map[string]chan int{}
	jobs    = make(chan int)
	started sync.WaitGroup
)

//go:noinline
func wait(ch chan int) int {
	started.Done()
	return <-ch
}

//go:noinline
func call(depth int, ch chan int) int {
	if depth == 0 {
		return wait(ch)
	}
	return call(depth-1, ch) + 1
}

func number(at, other int) int {
	if len(os.Args) > at {
		n, err := strconv.Atoi(os.Args[at])
		if err != nil {
			panic(err)
		}
		return n
	}
	return other
}

func main() {
	truth.Start()
	count, entries := number(2, 100_000), number(3, 0)
	started.Add(count)
	for i := 0; i < count; i++ {
		ch := jobs
		if i%2 == 0 {
			ch = make(chan int)
			replies[fmt.Sprint("request-", i)] = ch
		}
		go call(i%8, ch)
	}
	for i := 0; i < entries; i++ {
		replies[fmt.Sprint("idle-", i)] = make(chan int)
	}
	started.Wait()
	time.Sleep(300 * time.Millisecond)
	json.NewEncoder(os.Stdout).Encode(map[string]any{"count": count, "entries": entries + (count+1)/2})
	truth.Ready(truth.Mode())
}
