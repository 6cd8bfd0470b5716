// Command lives keeps looking up one key of a map, and does with its own process what it is told, a line at a time:
// "fork" runs itself as a child that looks the key up too, and tells how that ended; "exec" becomes the child; "exit" ends with
// status 7. As a child it counts its lookups and prints them.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"mapscope.example/samples/truth"
)

var table = map[string]int{"here": 1}

//go:noinline
func look(key string) int { return table[key] }

func child() {
	found := 0
	for i := 0; i < 200; i++ {
		found += look("here")
		time.Sleep(time.Millisecond)
	}
	fmt.Println("CHILD", found)
}

func main() {
	if truth.Mode() == "child" {
		child()
		return
	}
	truth.Start()
	truth.Map("main.table", &table, "looked up all the time")
	go func() {
		for {
			look("here")
			time.Sleep(time.Millisecond)
		}
	}()
	truth.Announce()
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch input.Text() {
		case "fork":
			out, err := exec.Command("/proc/self/exe", "child").Output()
			fmt.Printf("%s%v\n", out, err)
		case "exec":
			panic(syscall.Exec("/proc/self/exe", []string{"lives", "child"}, os.Environ()))
		case "try":
			fmt.Println(syscall.Exec("/does/not/exist", nil, nil))
		case "exit":
			os.Exit(7)
		}
	}
}
