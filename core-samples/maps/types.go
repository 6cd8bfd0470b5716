package main

import (
	"fmt"
	"unsafe"
)

type (
	ID       int32
	Name     string
	Ratio    float32
	Flag     bool
	Registry map[Name]ID
	Raw      []byte
	Octet    uint8
	Handler  func(int) int
	Queue    chan int
)

type Point struct{ X, Y int }

type Base struct {
	id   int64
	Kind string
}

// Nested has everything a struct can hold: embedded, blank, unexported, padded.
type Nested struct {
	Base
	*Point
	_     int32
	small int8
	Wide  int64
	_     [0]func()
	tail  struct {
		a bool
		b uint16
	}
	List  []string
	Grid  [2][3]int8
	Any   any
	Err   error
	Inner map[string]int
	empty struct{}
}

type Padded struct {
	A int8
	B int64
	C int16
}

type Blank struct {
	A int32
	_ int32
	B string
}

type (
	Key128  [128]byte
	Key129  [129]byte
	BigKey  struct{ Words [20]int64 }
	BigElem struct {
		Text string
		Data [40]int32
	}
	Elem128 [16]uint64
	Empty   struct{}
)

type Pair[K comparable, V any] struct {
	Key K
	Val V
}

type Box[T any] struct{ items map[string]T }

type Node struct {
	Name string
	Next *Node
	Side map[string]*Node
}

type Shape interface{ Area() float64 }

type Square struct{ side float64 }

func (s Square) Area() float64 { return s.side * s.side }

type Circle struct{ radius float64 }

func (c *Circle) Area() float64 { return 3 * c.radius * c.radius }

type Code int

func (c Code) Error() string { return fmt.Sprint("code ", int(c)) }

type failure struct {
	op    string
	cause error
}

func (f *failure) Error() string { return f.op + ": " + f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// Holder keeps maps where a debugger's expression has to reach for them.
type Holder struct {
	Users  map[string]int
	hidden map[ID]*Point
	Deep   struct{ Cache map[int]string }
	Table  [2]map[string]bool
	Link   *Holder
}

type Alignment struct {
	a bool
	p unsafe.Pointer
	u uintptr
}

//go:noinline
func double(n int) int { return n + n }

//go:noinline
func square(n int) int { return n * n }
