package truth

import (
	"bytes"
	"runtime"
	"strconv"
	"time"
)

// Parked is a goroutine that waits in a function.
type Parked struct {
	Goid int64  `json:"goid"`
	Name string `json:"name"`
}

// Goid is the number of the goroutine that asks.
func Goid() int64 {
	buf := make([]byte, 64)
	id, _ := strconv.ParseInt(string(bytes.Fields(buf[:runtime.Stack(buf, false)])[1]), 10, 64)
	return id
}

// Park runs f in a goroutine of its own until that waits in it.
func Park(name string, f func()) Parked {
	started := make(chan int64)
	go func() {
		started <- Goid()
		f()
	}()
	goid := <-started
	Settle(goid)
	return Parked{goid, name}
}

// Settle returns when the goroutine is parked: its state, by the runtime's own traceback, is that of a wait.
func Settle(goid int64) {
	head := []byte("goroutine " + strconv.FormatInt(goid, 10) + " ")
	buf := make([]byte, 1<<20)
	for {
		for _, one := range bytes.Split(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
			line, _, _ := bytes.Cut(one, []byte("\n"))
			runs := bytes.Contains(line, []byte("runn")) || bytes.Contains(line, []byte("[waiting"))
			if bytes.HasPrefix(line, head) && !runs {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
}
