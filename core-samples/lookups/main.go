// Command lookups keeps looking up keys of a small cache, one of them with a trailing space, so that it is
// always missing. On a line of input it changes main.table and prints how; on the next it ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"mapscope.example/samples/truth"
)

var (
	cache = map[string]int{"order-A": 1, "order-B": 2, "order-C": 3}
	table = map[string]int{}
	stop  atomic.Bool
)

//go:noinline
func handle(order string) int {
	return cache[order]
}

func serve() {
	for !stop.Load() {
		handle("order-A")
		handle("order-B")
		handle("order-A ")
		time.Sleep(time.Millisecond)
	}
}

type changes struct {
	Added   map[string]int    `json:"added"`
	Removed map[string]int    `json:"removed"`
	Changed map[string][2]int `json:"changed"`
}

// change grows the table past its size, removes every tenth key and changes every seventh.
func change() changes {
	made := changes{map[string]int{}, map[string]int{}, map[string][2]int{}}
	for i := 0; i < 100; i++ {
		key := "key " + strconv.Itoa(i)
		switch {
		case i%10 == 0:
			made.Removed[key] = table[key]
			delete(table, key)
		case i%7 == 0:
			made.Changed[key] = [2]int{table[key], -i}
			table[key] = -i
		}
	}
	for i := 100; i < 1500; i++ {
		key := "key " + strconv.Itoa(i)
		made.Added[key] = i
		table[key] = i
	}
	return made
}

func main() {
	truth.Start()
	for i := 0; i < 100; i++ {
		table["key "+strconv.Itoa(i)] = i
	}
	truth.Map("main.cache", &cache, "looked up all the time")
	truth.Map("main.table", &table, "changed on a line of input")
	ended := make(chan struct{})
	go func() { serve(); close(ended) }()
	truth.Announce()
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		time.Sleep(30 * time.Minute)
		os.Exit(3)
	}
	text, err := json.Marshal(change())
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
	input.ReadString('\n')
	stop.Store(true)
	<-ended
	fmt.Println("DONE")
}
