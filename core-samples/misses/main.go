// Lookups that miss, one for each reason: the key asked for is nearly one that is stored. The program looks
// every key up itself and prints what it asked for, as a Go literal, and why it is not there.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"

	"mapscope.example/samples/truth"
)

type UserID string

type Session struct {
	User   string
	Device uint32
	_      uint32
	At     *Point
}

type Point struct{ X, Y int }

type Node struct {
	ID   int
	Name string
}

var (
	Names    = map[string]int{}
	Numbers  = map[int64]string{}
	Floats   = map[float64]string{}
	Anything = map[any]int{}
	Sessions = map[Session]bool{}
	Nodes    = map[*Node]int{}
	Digests  = map[[8]byte]int{}
	LastUser UserID
	stored   = &Node{7, "seven"}
	wanted   = &Node{7, "seven"}
	nearly   = &Node{8, "eight "}
	eight    = &Node{8, "eight"}
)

// miss is one lookup that misses.
type miss struct {
	Map      string `json:"map"`
	Key      string `json:"key"`
	Relation string `json:"relation"`
	// Detail is part of the exact difference.
	Detail string `json:"detail"`
}

func ask[K comparable, V any](m map[K]V, name string, key K, literal, relation, detail string) {
	if _, there := m[key]; there {
		fmt.Fprintf(os.Stderr, "%s holds %s\n", name, literal)
		os.Exit(1)
	}
	line, _ := json.Marshal(miss{"main." + name, literal, relation, detail})
	fmt.Printf("%s\n", line)
}

func name(key, relation, detail string) {
	ask(Names, "Names", key, fmt.Sprintf("%+q", key), relation, detail)
}

func main() {
	truth.Start()
	fill()
	name("order-A", "whitespace", `"order-A" + U+0020`)
	name("order-B\n", "whitespace", "U+000A")
	name("Alice", "case", "U+0061")
	name("caf\u00e9", "unicode-form", "U+0065 U+0301")
	name("file-7", "unicode-form", "U+FB01")
	name("admin", "invisible", "U+200B")
	name("paypal", "homoglyph", "U+0430")
	name("receipt", "edit-distance", "")
	name("report", "affix", `"report" + U+002E`)
	ask(Numbers, "Numbers", 1<<32+7000001, "4301967297", "width", "7000001")
	ask(Numbers, "Numbers", -7000001, "-7000001", "numeric", "negated")
	ask(Numbers, "Numbers", 1700000000, "1700000000", "numeric", "1000")
	ask(Floats, "Floats", math.NaN(), "NaN", "nan", "")
	ask(Floats, "Floats", 0.3, "0.3", "numeric", "0.30000000000000004")
	ask(Floats, "Floats", 0.1, "0.1", "width", "float32")
	ask(Anything, "Anything", any(int64(42)), "int64(42)", "dynamic-type", "int(42)")
	ask(Anything, "Anything", any("u1"), `"u1"`, "dynamic-type", `main.UserID("u1")`)
	ask(Anything, "Anything", any("4711"), `"4711"`, "dynamic-type", "int(4711)")
	ask(Anything, "Anything", any(UserID("u2")), `main.UserID("u2")`, "whitespace", "U+0020")
	ask(Sessions, "Sessions", Session{User: "bob", Device: 3}, `{User: "bob", Device: 3}`, "struct-field", `.User: whitespace: "bob" + U+0020`)
	ask(Nodes, "Nodes", wanted, fmt.Sprintf("%p", wanted), "pointee", "equal main.Node")
	ask(Nodes, "Nodes", eight, fmt.Sprintf("%p", eight), "struct-field", ".Name")
	ask(Digests, "Digests", [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, "[8]uint8{1, 2, 3, 4, 5, 6, 7, 8}", "edit-distance", "byte 7 is 0x09, not 0x08")
	truth.Ready(truth.Mode())
}

func fill() {
	for i := 0; i < 300; i++ {
		Names[fmt.Sprintf("customer/%d", i*i)] = i
		Numbers[int64(i)*31_013] = "n"
		Floats[float64(i)*31_013.25] = "f"
		Anything[fmt.Sprint("any-", i)] = i
		Sessions[Session{User: fmt.Sprint("user-", i), Device: uint32(1000 + i)}] = true
		Nodes[&Node{1000 * i, fmt.Sprint("node-", i)}] = i
		Digests[[8]byte{byte(i), byte(i >> 8), 0xff, byte(i * 7), byte(i * 11), 0xee, 1, byte(i * 13)}] = i
	}
	for i, key := range []string{"order-A ", "order-B", "alice", "cafe\u0301", "\ufb01le-7", "ad\u200bmin", "p\u0430ypal", "reciept", "report.json"} {
		Names[key] = i
	}
	LastUser = "u2"
	Numbers[7000001], Numbers[1700000000000] = "width", "ms"
	Floats[math.NaN()], Floats[float64(float32(0.1))] = "nan", "float32"
	sum := 0.1
	sum += 0.2
	Floats[sum] = "sum"
	Anything[42], Anything[UserID("u1")], Anything[4711], Anything[UserID("u2 ")] = 1, 2, 3, 4
	Sessions[Session{User: "bob ", Device: 3}] = true
	Nodes[stored], Nodes[nearly] = 1, 2
	Digests[[8]byte{1, 2, 3, 4, 5, 6, 7, 9}] = 1
}
