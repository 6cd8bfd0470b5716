// Prints how Go itself writes floats, strings and times: the oracle for the tests of src/value.
// vectors.tsv is its output under Go 1.27.3:
//
//	go run -ldflags=-checklinkname=0 vectors.go > vectors.tsv
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"strconv"
	"time"
	"unicode"
	_ "unsafe"
)

//go:linkname tzset time.tzset
func tzset(s string, lastTxSec, sec int64) (name string, offset int, start, end int64, isDST, ok bool)

func main() {
	r := rand.New(rand.NewSource(1))
	f64 := []float64{0, math.Copysign(0, -1), 1, -1, 1.5, 0.1, 100, 1e5, 999999, 1e6, 1234567, 123456789, 1e15, 1e16, 1e17, 1.5e16,
		1e20, 1.234e20, 1e21, 9.99e20, 1.5e21, 1e22, 1e100, 1e-4, 1e-5, 1.5e-5, 1e-6, 9.9e-7, 1e-7, 1.25e-7, 1e-9, 1e-10, 1e-100,
		math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi, 1 << 53, 1<<53 + 2, 2.2250738585072014e-308, 5e-324, 9007199254740993}
	for i := 0; i < 400; i++ {
		f := math.Float64frombits(r.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		f64 = append(f64, f, r.NormFloat64()*math.Pow(10, float64(r.Intn(50)-25)), float64(r.Intn(1e9))/math.Pow(10, float64(r.Intn(12))))
	}
	for _, f := range f64 {
		b, _ := json.Marshal(f)
		fmt.Printf("f64\t%016x\t%s\t%#v\n", math.Float64bits(f), b, f)
	}
	f32 := []float32{0, 1, 0.1, 1e6, 16777216, 1e20, 1e21, 1.5e21, 1e-6, 9e-7, 1e-7, math.MaxFloat32, math.SmallestNonzeroFloat32, 3.14159}
	for i := 0; i < 400; i++ {
		f := math.Float32frombits(r.Uint32())
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		f32 = append(f32, f, float32(r.NormFloat64()*math.Pow(10, float64(r.Intn(50)-25))))
	}
	for _, f := range f32 {
		b, _ := json.Marshal(f)
		fmt.Printf("f32\t%08x\t%s\t%#v\n", math.Float32bits(f), b, f)
	}
	texts := []string{"", "a", "\"q\\\"", "tab\tnl\ncr\r\a\b\f\v\x00\x1f\x7f", "é世界🎉", "\xff\xfe", "a\xc3", "\u00a0\u2028\u200b\u0301\ufeff\U000e0001", "\u00ad soft", "\ufffd", "a\xf0\x9f\x98", "\U0010ffff", "\u3000", "‱ ƒ"}
	// Unassigned code points are left out: a newer Unicode than Go's may assign them.
	assigned := func(below int) rune {
		for {
			c := rune(r.Intn(below))
			if unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co) {
				return c
			}
		}
	}
	for i := 0; i < 200; i++ {
		b := make([]byte, r.Intn(12))
		r.Read(b)
		texts = append(texts, string(b), string([]rune{assigned(0x3000), assigned(0x110000), assigned(0x11ff)}))
	}
	for _, s := range texts {
		fmt.Printf("str\t%s\t%s\n", hex.EncodeToString([]byte(s)), strconv.Quote(s))
	}
	for _, z := range []string{"EST5EDT,M3.2.0,M11.1.0", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "CET-1CEST,M3.5.0,M10.5.0/3", "IST-1GMT0,M10.5.0,M3.5.0/1", "JST-9", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "EST5EDT", "AAA1BBB,J60/0,J300/26", "AAA1BBB,59,300/-3", "bad", "X5", "EST5EDT,M13.1.0,M11.1.0"} {
		for i := 0; i < 25; i++ {
			sec := r.Int63n(4e9) + 1e9
			if i%5 == 0 {
				sec = r.Int63n(2e11) - 6.2e10
			}
			_, off, _, _, _, ok := tzset(z, 0, sec)
			fmt.Printf("tzset\t%s\t%d\t%d\t%v\n", z, sec, off, ok)
		}
	}
	for i := 0; i < 60; i++ {
		sec := r.Int63n(4e9)
		if i%3 == 0 {
			sec = r.Int63n(6e11) - 3e11
		}
		off := []int{0, 3600, -18000, 20700, -1, 45296}[r.Intn(6)]
		ns := []int64{0, 1, 120, 500000000, 999999999}[r.Intn(5)]
		t := time.Unix(sec, ns).In(time.FixedZone("Z", off))
		if off == 0 {
			t = t.UTC()
		}
		fmt.Printf("time\t%d\t%d\t%d\t%s\t%#v\n", sec, ns, off, t.Format(time.RFC3339Nano), t)
	}
}
