// Command reflected does a known number of map operations through package reflect, and prints how many in the
// form of ops: reflected wait|exit [ROUNDS]. In the mode "wait" it starts on a line on standard input.
//
// maps.Clone between them is no operation of the program's on the map.
package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"mapscope.example/samples/truth"
)

var (
	Strings  = map[string]int{"a": 1}
	Integers = map[int64][200]byte{1: {}}
)

func main() {
	truth.Start()
	rounds := 100
	if len(os.Args) > 2 {
		rounds, _ = strconv.Atoi(os.Args[2])
	}
	for i := 0; i < 50; i++ {
		Strings[fmt.Sprint("filler ", i)] = i
		Integers[int64(100+i)] = [200]byte{}
	}
	truth.Unlisted("main.Strings", &Strings, "before the start")
	truth.Unlisted("main.Integers", &Integers, "before the start")
	text := make([]byte, 64)
	goid := strings.Fields(string(text[:runtime.Stack(text, false)]))[1]
	truth.Announce()
	if truth.Mode() == "wait" {
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	for i := 0; i < rounds; i++ {
		round(reflect.ValueOf(Strings), reflect.ValueOf("b"), reflect.ValueOf(2))
		round(reflect.ValueOf(Integers), reflect.ValueOf(int64(2)), reflect.ValueOf([200]byte{}))
		if len(maps.Clone(Strings)) != 51 || len(maps.Clone(Integers)) != 51 {
			panic("the filler is gone")
		}
	}
	reflect.ValueOf(Strings).Clear()
	reflect.ValueOf(Integers).Clear()
	var counts []string
	for _, m := range []struct{ name, key string }{{"Strings", `"b"`}, {"Integers", "2"}} {
		for _, c := range []struct {
			op, key string
			n       int
		}{{"access2", m.key, 3 * rounds}, {"assign", m.key, rounds}, {"delete", m.key, rounds}, {"iterate", "null", rounds}, {"clear", "null", 1}} {
			counts = append(counts, fmt.Sprintf(`{"map":"main.%s","goroutine":%s,"op":"%s","key":%s,"n":%d}`, m.name, goid, c.op, c.key, c.n))
		}
	}
	fmt.Printf("{\"counts\":[%s],\"operations\":%d}\nDONE\n", strings.Join(counts, ","), 12*rounds+2)
}

// round is three accesses, one assignment, one deletion and one iteration.
func round(m, key, elem reflect.Value) {
	if m.MapIndex(key).IsValid() {
		panic("the key is there before it was put")
	}
	m.SetMapIndex(key, elem)
	if !m.MapIndex(key).IsValid() {
		panic("the key is not there")
	}
	for it := m.MapRange(); it.Next(); {
		break
	}
	m.SetMapIndex(key, reflect.Value{})
	if m.MapIndex(key).IsValid() {
		panic("the key is there after it was deleted")
	}
}
