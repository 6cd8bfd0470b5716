// Command peer reads an execution trace by golang.org/x/exp/trace: "loop" takes in each event and does nothing with
// it, "records" keeps of each goroutine what mapscope keeps: creation, states with times, the last block, wakers.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/exp/trace"
)

// States and wakers kept of one goroutine, as in mapscope.
const (
	maxSpans  = 32
	maxWakers = 8
)

type span struct {
	state  trace.GoState
	reason string
	stack  trace.Stack
	start  trace.Time
	end    trace.Time
	proc   trace.ProcID
	thread trace.ThreadID
}

type wake struct {
	by    trace.GoID
	time  trace.Time
	stack trace.Stack
}

type goroutine struct {
	createdBy trace.GoID
	created   trace.Time
	start     trace.Stack
	ended     bool
	spans     []span
	block     span
	wakers    []wake
	blocks    int
	times     [8]trace.Time
}

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: peer loop|records FILE"))
	}
	file, err := os.Open(os.Args[2])
	fail(err)
	reader, err := trace.NewReader(bufio.NewReaderSize(file, 1<<20))
	fail(err)
	events, goroutines := 0, map[trace.GoID]*goroutine{}
	for {
		event, err := reader.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		fail(err)
		events++
		if os.Args[1] == "records" {
			take(goroutines, &event)
		}
	}
	fmt.Println(events, len(goroutines))
}

func take(goroutines map[trace.GoID]*goroutine, event *trace.Event) {
	if event.Kind() != trace.EventStateTransition {
		return
	}
	moved := event.StateTransition()
	if moved.Resource.Kind != trace.ResourceGoroutine {
		return
	}
	id := moved.Resource.Goroutine()
	from, to := moved.Goroutine()
	g := goroutines[id]
	if g == nil {
		g = &goroutine{}
		goroutines[id] = g
	}
	if from == to {
		return
	}
	now := span{to, moved.Reason, moved.Stack, event.Time(), 0, event.Proc(), event.Thread()}
	if n := len(g.spans); n > 0 {
		last := &g.spans[n-1]
		last.end = now.start
		g.times[last.state] += last.end - last.start
	}
	switch {
	case from == trace.GoNotExist:
		g.created, g.createdBy, g.start = now.start, event.Goroutine(), moved.Stack
	case from == trace.GoRunning && to == trace.GoWaiting:
		g.block = now
		g.blocks++
	case from == trace.GoWaiting:
		if len(g.wakers) == maxWakers {
			copy(g.wakers, g.wakers[1:])
			g.wakers = g.wakers[:maxWakers-1]
		}
		g.wakers = append(g.wakers, wake{event.Goroutine(), now.start, event.Stack()})
	}
	if to == trace.GoNotExist {
		delete(goroutines, id)
		return
	}
	if len(g.spans) == maxSpans {
		copy(g.spans, g.spans[1:])
		g.spans = g.spans[:maxSpans-1]
	}
	g.spans = append(g.spans, now)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
