// Lookups that miss, one for each reason: the key asked for is nearly one that is stored. The program looks
// every key up itself and prints what it asked for, as a Go literal, and why it is not there.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

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

type Visit struct {
	User string
	At   time.Time
}

type Edge struct{ From, To string }

type Color int

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
	Words    = map[string]int{}
	Bits     = map[uint64]string{}
	Modes    = map[int]string{}
	Edges    = map[Edge]int{}
	Times    = map[time.Time]string{}
	Visits   = map[Visit]int{}
	Hosts    = map[netip.Addr]string{}
	Typed    sync.Map
	LastUser UserID
	// What was asked for, for keys that no literal can say: gdb takes them by --expr.
	Moment  = time.Date(2024, 3, 1, 9, 12, 0, 0, time.UTC)
	Visited = Visit{"alice", Moment}
	Host    = netip.MustParseAddr("10.1.2.3")
	// Asked for in a map[any]int, this panics.
	Unhashable any = []int{1}
	stored         = &Node{7, "seven"}
	wanted         = &Node{7, "seven"}
	nearly         = &Node{8, "eight "}
	eight          = &Node{8, "eight"}
)

// miss is one lookup that misses.
type miss struct {
	Map     string `json:"map"`
	Type    string `json:"type"`
	Address string `json:"address"`
	Key     string `json:"key"`
	// Expr is set when the key is an expression.
	Expr     bool   `json:"expr"`
	Relation string `json:"relation"`
	// Detail is part of the exact difference.
	Detail string `json:"detail"`
}

// newMiss is a lookup in m, a map or a pointer to a sync.Map.
func newMiss(m any, name, key string, expr bool, relation, detail string) miss {
	v := reflect.ValueOf(m)
	kind, address := strings.TrimPrefix(v.Type().String(), "*"), fmt.Sprintf("0x%x", v.Pointer())
	return miss{"main." + name, kind, address, key, expr, relation, detail}
}

func ask[K comparable, V any](m map[K]V, name string, key K, literal, relation, detail string) {
	askOnce(m, key, newMiss(m, name, literal, false, relation, detail))
}

func askExpr[K comparable, V any](m map[K]V, name string, key K, expr, relation, detail string) {
	askOnce(m, key, newMiss(m, name, expr, true, relation, detail))
}

func askOnce[K comparable, V any](m map[K]V, key K, said miss) {
	_, there := m[key]
	say(said, there)
}

// say prints a lookup that missed, as the program itself found.
func say(m miss, there bool) {
	if there {
		fmt.Fprintf(os.Stderr, "%s holds %s\n", m.Map, m.Key)
		os.Exit(1)
	}
	line, _ := json.Marshal(m)
	fmt.Printf("%s\n", line)
}

func askTyped(key any, literal, relation, detail string) {
	_, there := Typed.Load(key)
	say(newMiss(&Typed, "Typed", literal, false, relation, detail), there)
}

// askAny is ask for keys in interfaces, which are no type argument for a comparable one before Go 1.20.
func askAny(key any, literal, relation, detail string) {
	_, there := Anything[key]
	say(newMiss(Anything, "Anything", literal, false, relation, detail), there)
}

func name(key, relation, detail string) {
	ask(Names, "Names", key, fmt.Sprintf("%+q", key), relation, detail)
}

func main() {
	truth.Start()
	fill()
	if Unhashable == nil {
		panic("the linker drops what is not used")
	}
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
	askAny(int64(42), "int64(42)", "dynamic-type", "int(42)")
	askAny("u1", `"u1"`, "dynamic-type", `main.UserID("u1")`)
	askAny("4711", `"4711"`, "dynamic-type", "int(4711)")
	askAny(UserID("u2"), `main.UserID("u2")`, "whitespace", "U+0020")
	ask(Sessions, "Sessions", Session{User: "bob", Device: 3}, `{User: "bob", Device: 3}`, "struct-field", `.User: whitespace: "bob" + U+0020`)
	ask(Nodes, "Nodes", wanted, fmt.Sprintf("%p", wanted), "pointee", "equal main.Node")
	ask(Nodes, "Nodes", eight, fmt.Sprintf("%p", eight), "struct-field", ".Name")
	ask(Digests, "Digests", [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, "[8]uint8{1, 2, 3, 4, 5, 6, 7, 8}", "edit-distance", "byte 7 is 0x09, not 0x08")
	name("line", "whitespace", "U+000D U+000A")
	name("\u0131stanbul", "case", "U+0130")
	name("Tom & Co", "encoding", "with HTML entities")
	name("a b/c", "encoding", "percent-encoded")
	name("quoted-key", "encoding", "in quotes")
	name("\xde\xad\xbe\xef", "encoding", "as hex digits")
	name("550E8400-E29B-41D4-A716-446655440000", "edit-distance", "only punctuation and case differ")
	name("ticket-42", "numeric", `"ticket-" + U+0030 U+0030`)
	name("/api/users", "affix", `"/api/users" + U+002F`)
	name("12345678901234567890", "edit-distance", "U+0031")
	name("ba\u200dr", "invisible", `(without U+200D)`)
	ask(Words, "Words", "kubernetes", `"kubernetes"`, "zero-value", "the zero value of string")
	ask(Words, "Words", "0", `"0"`, "signed-zero", `U+002D`)
	ask(Bits, "Bits", math.Float64bits(0), "0", "signed-zero", "the bits of -0.0")
	ask(Modes, "Modes", 644, "644", "numeric", "420 is 0o644")
	ask(Edges, "Edges", Edge{"berlin", "paris"}, `{"berlin", "paris"}`, "struct-field", ".From and .To are swapped")
	askExpr(Times, "Times", Moment, "main.Moment", "struct-field", "location")
	askExpr(Visits, "Visits", Visited, "main.Visited", "struct-field", "the same instant")
	askExpr(Hosts, "Hosts", Host, "main.Host", "struct-field", "10.1.2.3 and ::ffff:10.1.2.3")
	askTyped("u1", `"u1"`, "dynamic-type", `main.UserID("u1")`)
	askTyped(UserID("u3"), `main.UserID("u3")`, "dynamic-type", `string("u3")`)
	askTyped(int64(7), "int64(7)", "dynamic-type", "main.Color(7)")
	askTyped("u4", `"u4"`, "whitespace", "U+0020")
	askTyped(Point{1, 2}, "main.Point{1, 2}", "struct-field", ".Y: numeric: 3 = 2 + 1")
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
	for i, key := range []string{"order-A ", "order-B", "alice", "cafe\u0301", "\ufb01le-7", "ad\u200bmin", "p\u0430ypal", "reciept", "report.json",
		"line\r\n", "\u0130stanbul", "Tom &amp; Co", "a%20b%2Fc", `"quoted-key"`, "deadbeef", "550e8400e29b41d4a716446655440000",
		"ticket-0042", "ticket-43", "/api/users/", "12345678901234567891", "bar"} {
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
	fillOthers()
}

func fillOthers() {
	for i := 0; i < 300; i++ {
		Words[fmt.Sprintf("a word of its own, %d", i)] = i
		Bits[uint64(i+1)*0x0123_4567_89ab_cdef] = "bits"
		Modes[100_000+31*i] = "mode"
		Edges[Edge{fmt.Sprint("from-", i), fmt.Sprint("to-", i)}] = i
		Times[Moment.Add(time.Duration(i+1)*37*time.Hour)] = "time"
		Visits[Visit{fmt.Sprint("visitor-", i), Moment.Add(time.Duration(i+1) * 37 * time.Hour)}] = i
		Hosts[netip.AddrFrom4([4]byte{192, 168, byte(i >> 4), byte(i * 16)})] = "host"
		Typed.Store(fmt.Sprint("typed-", i), i)
		Typed.Store(Color(1000+i), i)
	}
	Words[""], Words["-0"] = 1, 2
	Bits[1<<63], Modes[0o644] = "negative zero", "rw-r--r--"
	Edges[Edge{"paris", "berlin"}] = 1
	Times[Moment.In(time.FixedZone("CET", 3600))] = "the same instant elsewhere"
	Visits[Visit{"alice", Moment.In(time.FixedZone("CET", 3600))}] = 1
	Hosts[netip.MustParseAddr("::ffff:10.1.2.3")] = "mapped"
	for _, key := range []any{UserID("u1"), "u3", Color(7), "u4 ", Point{1, 3}} {
		Typed.Store(key, true)
	}
	// Range makes the older layout's dirty map the read-only one; what is stored after it is in dirty alone.
	Typed.Range(func(any, any) bool { return true })
	Typed.Store("late", true)
}
