// Command big fills one map for benchmarks: big MODE KIND N. The map is too big to list, so its truth
// has no entries; the sums let a reader of all entries check itself.
package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"mapscope.example/samples/truth"
)

type Record struct {
	ID    int64
	Name  string
	Score float64
	Tags  []string
}

// Only the variable of the chosen kind is filled. Key i has elem 3i (or a text or record of it).
var (
	int64int64   map[int64]int64
	stringstring map[string]string
	stringptr    map[string]*Record
	int32struct  map[int32]struct{}
	stringany    map[string]any
)

var kinds = map[string]func(n int){
	"int64int64": func(n int) {
		int64int64 = make(map[int64]int64)
		for i := 0; i < n; i++ {
			int64int64[int64(i)] = int64(i) * 3
		}
		truth.Unlisted("main.int64int64", &int64int64, "key i, elem 3i")
	},
	"stringstring": func(n int) {
		stringstring = make(map[string]string)
		for i := 0; i < n; i++ {
			stringstring[key(i)] = "elem " + strconv.Itoa(i*3)
		}
		truth.Unlisted("main.stringstring", &stringstring, "key-i, elem 3i")
	},
	"stringptr": func(n int) {
		stringptr = make(map[string]*Record)
		for i := 0; i < n; i++ {
			stringptr[key(i)] = &Record{int64(i) * 3, "record " + strconv.Itoa(i), float64(i) / 4, []string{"a", key(i)}}
		}
		truth.Unlisted("main.stringptr", &stringptr, "key-i, record with ID 3i")
	},
	"int32struct": func(n int) {
		int32struct = make(map[int32]struct{})
		for i := 0; i < n; i++ {
			int32struct[int32(i)] = struct{}{}
		}
		truth.Unlisted("main.int32struct", &int32struct, "the set of 0 to N-1")
	},
	"stringany": func(n int) {
		stringany = make(map[string]any)
		for i := 0; i < n; i++ {
			if i%2 == 0 {
				stringany[key(i)] = i * 3
			} else {
				stringany[key(i)] = key(i * 3)
			}
		}
		truth.Unlisted("main.stringany", &stringany, "key-i, 3i as int or text")
	},
}

func key(i int) string { return "key-" + strconv.Itoa(i) }

func main() {
	truth.Start()
	n, fill := 0, func(int) {}
	if len(os.Args) == 4 {
		n, _ = strconv.Atoi(os.Args[3])
		fill = kinds[os.Args[2]]
	}
	if n <= 0 || fill == nil {
		var names []string
		for name := range kinds {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "use: big wait|abort|exit %s N\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	fill(n)
	truth.Ready(truth.Mode())
}
