// One map for each way in which the compiler or reflect hashes a key, filled far enough that a wrong hash
// shows: a key whose hash is computed otherwise than by the runtime lies off its path.
package main

import (
	"fmt"
	"math"
	"reflect"

	"mapscope.example/samples/truth"
)

type In struct {
	A int32
	B [3]int8
}
type Deep struct {
	In
	S  string
	_  int16
	F  float32
	C  complex64
	P  *int
	I  any
	Ar [5]string
}
type One struct{ S string }
type OneI struct{ I int32 }
type Arr1 [1]float64
type Er interface{ Error() string }
type E1 struct {
	X int8
	Y int64
}

func (e E1) Error() string { return "x" }

type E2 string

func (e E2) Error() string { return "x" }

type T9 struct{ A [9]byte }
type Blank struct {
	_ int32
	A int32
	_ [0]int64
}
type Tail struct {
	A int64
	B struct{}
}
type F2 struct{ A, B float64 }
type Big struct {
	A [20]float64
	S [3]string
}
type Loops struct{ A [37]string }

var (
	Any        = map[any]int{}
	Errors     = map[Er]int{}
	Deeps      = map[Deep]int{}
	Ones       = map[One]int{}
	OneInts    = map[OneI]int{}
	Arrays1    = map[Arr1]int{}
	Nines      = map[T9]int{}
	Blanks     = map[Blank]int{}
	Tails      = map[Tail]int{}
	Floats2    = map[F2]int{}
	Bigs       = map[Big]int{}
	LongArrays = map[Loops]int{}
	Complexes  = map[complex128]int{}
	Empties    = map[[0]int]int{}
	Channels   = map[chan int]int{}
	Floats7    = map[[7]float32]int{}
	Ins        = map[In]int{}
	Sixes      = map[[3]int16]int{}
	Sixteens   = map[[2]uint64]bool{}
	// A map type that only reflect made, with a key type that only reflect made.
	Made any
)

func main() {
	truth.Start()
	fill()
	fillMade()
	truth.Ready(truth.Mode())
}

func fill() {
	for i := 0; i < 700; i++ {
		v := int64(i) * 1000003
		s := fmt.Sprint("key", i)
		x := new(int)
		Any[i], Any[int8(i)], Any[s], Any[E2(s)], Any[float64(i)/3], Any[float32(i)] = 1, 1, 1, 1, 1, 1
		Any[[2]any{i, s}], Any[x], Any[One{s}], Any[OneI{int32(i)}], Any[E1{int8(i), v}] = 1, 1, 1, 1, 1
		Any[struct{ P *int }{x}], Any[[1]*int{x}], Any[complex(float32(i), 1)], Any[T9{[9]byte{byte(i), byte(i >> 8)}}] = 1, 1, 1, 1
		Any[Tail{v, struct{}{}}], Any[Blank{A: int32(i)}], Any[[3]int16{int16(i)}], Any[In{A: int32(i)}], Any[struct{}{}] = 1, 1, 1, 1, 1
		Any[Deep{In: In{A: int32(i)}, S: s, I: s, C: complex(1, float32(i))}] = 1
		Errors[E1{int8(i), v}], Errors[E2(s)] = 1, 1
		Deeps[Deep{In: In{A: int32(i)}, S: s, F: float32(i), I: i, P: x, Ar: [5]string{s, "", s}}] = 1
		Ones[One{s}], OneInts[OneI{int32(v)}], Arrays1[Arr1{float64(v)}], Nines[T9{[9]byte{byte(i), byte(i >> 8)}}] = 1, 1, 1, 1
		Blanks[Blank{A: int32(i)}], Tails[Tail{A: v}], Floats2[F2{float64(i), math.Copysign(0, -1)}] = 1, 1, 1
		b := Big{S: [3]string{s, s, ""}}
		b.A[i%20] = float64(i)
		Bigs[b] = 1
		var l Loops
		l.A[i%37] = s
		LongArrays[l] = 1
		Complexes[complex(float64(i), 0)], Empties[[0]int{}], Channels[make(chan int)], Floats7[[7]float32{float32(i)}] = 1, 1, 1, 1
		Ins[In{A: int32(v)}], Sixes[[3]int16{int16(i), 1}], Sixteens[[2]uint64{uint64(v), 1}] = 1, 1, true
	}
}

func fillMade() {
	fields := []reflect.StructField{
		{Name: "A", Type: reflect.TypeOf(int32(0))},
		{Name: "B", Type: reflect.TypeOf(int32(0))},
		{Name: "C", Type: reflect.TypeOf(int64(0))},
	}
	key := reflect.StructOf(fields)
	made := reflect.MakeMap(reflect.MapOf(key, reflect.TypeOf(0)))
	for i := 0; i < 500; i++ {
		v := reflect.New(key).Elem()
		v.Field(0).SetInt(int64(i))
		v.Field(2).SetInt(int64(i * 7))
		Any[v.Interface()] = 1
		made.SetMapIndex(v, reflect.ValueOf(i))
	}
	Made = made.Interface()
}
