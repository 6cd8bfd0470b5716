// Command reused has goroutines look up keys that nothing needs afterwards, and wait behind that for ever. Then collections
// free the keys, and others of the same length are made in their memory. It prints which key each goroutine looked up.
// With "kept" as second argument the goroutines need their keys again after the wait.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"mapscope.example/samples/truth"
)

const each = 16

var (
	replies = map[string]chan string{}
	others  []string
	kept    bool
	count   int
)

func goid() int64 {
	buf := make([]byte, 64)
	id, _ := strconv.ParseInt(strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1], 10, 64)
	return id
}

// name is a string of its own, of 40 bytes.
func name(kind string, i int) string { return fmt.Sprintf("%s-%0*d", kind, 39-len(kind), i) }

type asked struct {
	Goid int64  `json:"goid"`
	Key  string `json:"key"`
}

// say keeps a copy of the key, so that the key itself dies.
func say(key string, said chan asked) { said <- asked{goid(), strings.Clone(key)} }

//go:noinline
func waitFor(key string, said chan asked) {
	c := replies[key]
	say(key, said)
	<-c
	count++
}

//go:noinline
func waitForKept(key string, said chan asked) {
	c := replies[key]
	say(key, said)
	<-c
	replies[key] = c
}

//go:noinline
func start(i int, said chan asked) {
	key := name("asked", i)
	if kept {
		go waitForKept(key, said)
		return
	}
	go waitFor(key, said)
}

func parked() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), " [chan receive (nil chan)")
}

func main() {
	kept = len(os.Args) > 2 && os.Args[2] == "kept"
	said := make(chan asked, each)
	for i := 0; i < each; i++ {
		start(i, said)
	}
	for parked() < each {
		time.Sleep(time.Millisecond)
	}
	// Two collections, for the first may have begun before the last goroutine waited.
	runtime.GC()
	runtime.GC()
	for i := 0; i < 4096; i++ {
		others = append(others, name("other", i))
		if i%512 == 0 {
			replies[others[i]] = make(chan string)
		}
	}
	var lookups []asked
	for i := 0; i < each; i++ {
		lookups = append(lookups, <-said)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"asked": lookups})
	truth.Ready(truth.Mode())
}
