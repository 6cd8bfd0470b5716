// Command lab tells what its own runtime knows: types, functions, stacks.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
)

// base is where the first page of this executable lies.
func base() uint64 {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	for _, line := range strings.Split(string(maps), "\n") {
		if strings.HasSuffix(line, self) {
			var start uint64
			fmt.Sscanf(line, "%x-", &start)
			return start
		}
	}
	panic("the executable is not mapped")
}

type frame struct {
	PC       uintptr
	Function string
	File     string
	Line     int
}

func innermost(pc uintptr) string { return pick(pc) }

func pick(pc uintptr) string {
	if pc == 0 {
		return outer(1)[0].Function
	}
	return strings.TrimSpace("x")
}

//go:noinline
func outer(n int) []frame { return middle(n + 1) }

func middle(n int) []frame { return inner(n * 2) }

func inner(n int) []frame {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(1, pcs)]
	frames := runtime.CallersFrames(pcs)
	var list []frame
	for i := 0; ; i++ {
		f, more := frames.Next()
		list = append(list, frame{pcs[i], f.Function, f.File, f.Line})
		if !more {
			return list
		}
	}
}

// at says what the runtime knows of an instruction.
func at(pc uintptr) frame {
	f, _ := runtime.CallersFrames([]uintptr{pc + 1}).Next()
	return frame{pc, f.Function, f.File, f.Line}
}

func main() {
	// Its layout shall be described.
	sync.NewCond(new(sync.Mutex)).Broadcast()
	fmt.Println(base())
	out := json.NewEncoder(os.Stdout)
	switch os.Args[1] {
	case "types":
		var types []reflect.Type
		for _, value := range every {
			types = append(types, reflect.TypeOf(value))
		}
		describe(types)
	case "made":
		types := made()
		describe(types)
		fmt.Println("end")
		bufio.NewScanner(os.Stdin).Scan()
		runtime.KeepAlive(types)
	case "stack":
		out.Encode(outer(len(innermost(1))))
	case "frames":
		lines := bufio.NewScanner(os.Stdin)
		buffered := bufio.NewWriter(os.Stdout)
		out = json.NewEncoder(buffered)
		for lines.Scan() {
			var pc uintptr
			fmt.Sscan(lines.Text(), &pc)
			out.Encode(at(pc))
		}
		buffered.Flush()
	}
}
