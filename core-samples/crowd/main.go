// Command crowd is a real program in the middle of its work: an HTTP server with hundreds of requests in progress, and
// the clients that wait for them, more than 1000 goroutines in all. It prints what the runtime itself says of their
// stacks.
package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mapscope.example/samples/truth"
)

const clients = 240

var (
	inside atomic.Int64
	mu     sync.Mutex
	cond   = sync.NewCond(&mu)
	room   = map[string]chan string{}
)

type waiter interface{ wait(r *http.Request) string }

type byChannel struct{}
type byContext struct{ limit time.Duration }
type byCond struct{}
type byLock struct{ sync.Mutex }

func (byChannel) wait(r *http.Request) string {
	ch := make(chan string)
	mu.Lock()
	room[r.URL.RawQuery] = ch
	mu.Unlock()
	inside.Add(1)
	return <-ch
}

func (b byContext) wait(r *http.Request) string {
	ctx, cancel := context.WithTimeout(r.Context(), b.limit)
	defer cancel()
	inside.Add(1)
	select {
	case <-ctx.Done():
		return "late"
	case text := <-room["nobody"]:
		return text
	}
}

func (byCond) wait(*http.Request) string {
	mu.Lock()
	defer mu.Unlock()
	inside.Add(1)
	cond.Wait()
	return "woken"
}

func (b *byLock) wait(*http.Request) string {
	inside.Add(1)
	func() {
		b.Lock()
		defer b.Unlock()
	}()
	return "locked"
}

// each calls itself, so that some stacks are deep.
func each[T any](depth int, value T, do func(T) string) string {
	if depth == 0 {
		return do(value)
	}
	return each(depth-1, value, do)
}

func main() {
	debug.SetTraceback("crash") // all frames, the runtime's too
	lock := new(byLock)
	lock.Lock()
	mux := http.NewServeMux()
	for path, w := range map[string]waiter{
		"/channel": byChannel{}, "/context": byContext{time.Hour}, "/cond": byCond{}, "/lock": lock,
	} {
		mux.HandleFunc(path, func(out http.ResponseWriter, r *http.Request) {
			depth := len(r.URL.RawQuery) * 7
			io.WriteString(out, each(depth, r, w.wait))
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go (&http.Server{Handler: mux}).Serve(listener)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 0}}
	paths := []string{"channel", "context", "cond", "lock"}
	for i := 0; i < clients; i++ {
		url := "http://" + listener.Addr().String() + "/" + paths[i%4] + "?" + strings.Repeat("x", 1+i/4%9)
		go func() {
			answer, err := client.Get(url)
			if err == nil {
				io.Copy(io.Discard, answer.Body)
			}
		}()
	}
	for inside.Load() < clients {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // the last step to being parked
	stacks := make([]byte, 64<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	json.NewEncoder(os.Stdout).Encode(map[string]any{"goroutines": runtime.NumGoroutine(), "stacks": string(stacks)})
	truth.Ready(truth.Mode())
}
