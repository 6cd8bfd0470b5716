// Program tenants has five maps inside a map, of which the first N have 100 entries and the others one; the keys that
// lead to them agree in their first 60 bytes. Usage: tenants N. It stays until standard input ends.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

var tenants = map[string]map[int]int{}

func main() {
	prefix := "/var/lib/service/tenants/" + strings.Repeat("x", 35) + "/"
	large, _ := strconv.Atoi(os.Args[1])
	for i := 0; i < 5; i++ {
		m := map[int]int{0: 0}
		for k := 0; i < large && k < 100; k++ {
			m[k] = k
		}
		tenants[prefix+strconv.Itoa(i)] = m
	}
	fmt.Println("large:", large)
	os.Stdin.Read(make([]byte, 1))
	runtime.KeepAlive(tenants)
}
