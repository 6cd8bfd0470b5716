package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"
	"unsafe"

	one "example.com/lab/one/shared"
	two "example.com/lab/two/shared"
)

type pair[K comparable, V any] struct {
	Key   K
	Value V
}

func (p pair[K, V]) String() string { return fmt.Sprint(p.Key) }

type embedded struct {
	pair[string, int]
	*node
	io.Reader
	sync.Mutex `json:"lock,omitempty" x:"\"quoted\"\t"`
	_          int32
	after      bool
}

type node struct {
	left, right *node
	callbacks   []func(*node, ...any) (bool, error)
}

type celsius float64

func (c celsius) Kelvin() float64 { return float64(c) + 273.15 }
func (c *celsius) set(f float64)  { *c = celsius(f) }

type stringer interface {
	String() string
	hidden(int) error
}

type big [200]byte

type registry struct {
	plain     map[string]int
	structs   map[one.T]two.T
	large     map[[200]byte]big
	empty     map[int32]struct{}
	nested    map[string]map[*node][]pair[int8, one.T]
	any       map[any]error
	floats    map[float64]complex128
	receive   <-chan (<-chan int)
	send      chan<- func() chan int
	both      chan (<-chan string)
	raw       unsafe.Pointer
	words     [3]uintptr
	inline    struct{ A, b int }
	methods   interface{ M(x int, more ...string) (n int, err error) }
	when      time.Time
	function  func(int, ...*embedded) <-chan error
	unsigned  []uint16
	character rune
	hider     two.Hider
}

// every is kept by an interface, so that the linker keeps all descriptors.
var every = []any{
	registry{}, embedded{}, node{}, celsius(1), new(celsius), pair[string, map[int]bool]{}, big{},
	(*stringer)(nil), errors.New("x"), os.Stdin, time.Second, one.T{}, two.T{}, complex64(1),
	map[pair[int, string]]*embedded{}, []map[string]struct{ x, Y int }{}, struct {
		int
		T one.T `tag:"a"`
	}{},
}

type field struct {
	Name      string
	Type      uintptr
	Offset    uintptr
	Anonymous bool
	Tag       string
}

type fact struct {
	Address           uintptr
	String            string
	Package           string
	Name              string
	Kind              int
	Size              uintptr
	Align, FieldAlign int
	Elem, Key         uintptr
	Len               int
	Fields            []field
	In, Out           []uintptr
	Variadic          bool
	Methods           []string
	Exported          int
}

func addressOf(t reflect.Type) uintptr { return (*[2]uintptr)(unsafe.Pointer(&t))[1] }

// describe prints what reflection says of the types and of all that they lead to.
func describe(queue []reflect.Type) {
	out := json.NewEncoder(os.Stdout)
	seen := map[reflect.Type]bool{}
	add := func(t reflect.Type) uintptr {
		queue = append(queue, t)
		return addressOf(t)
	}
	for len(queue) > 0 {
		t := queue[0]
		queue = queue[1:]
		if seen[t] {
			continue
		}
		seen[t] = true
		f := fact{Address: addressOf(t), String: t.String(), Package: t.PkgPath(), Name: t.Name(), Kind: int(t.Kind()),
			Size: t.Size(), Align: t.Align(), FieldAlign: t.FieldAlign()}
		switch t.Kind() {
		case reflect.Array:
			f.Elem, f.Len = add(t.Elem()), t.Len()
		case reflect.Chan, reflect.Pointer, reflect.Slice:
			f.Elem = add(t.Elem())
		case reflect.Map:
			f.Key, f.Elem = add(t.Key()), add(t.Elem())
		case reflect.Struct:
			for i := 0; i < t.NumField(); i++ {
				s := t.Field(i)
				f.Fields = append(f.Fields, field{s.Name, add(s.Type), s.Offset, s.Anonymous, string(s.Tag)})
			}
		case reflect.Func:
			for i := 0; i < t.NumIn(); i++ {
				f.In = append(f.In, add(t.In(i)))
			}
			for i := 0; i < t.NumOut(); i++ {
				f.Out = append(f.Out, add(t.Out(i)))
			}
			f.Variadic = t.IsVariadic()
		case reflect.Interface:
			for i := 0; i < t.NumMethod(); i++ {
				f.Methods = append(f.Methods, t.Method(i).Name)
				add(t.Method(i).Type)
			}
		}
		if t.Kind() != reflect.Interface {
			f.Exported = t.NumMethod()
		}
		if err := out.Encode(f); err != nil {
			panic(err)
		}
	}
}

// made returns types that no compiler made.
func made() []reflect.Type {
	node, text := reflect.TypeOf(node{}), reflect.TypeOf("")
	unsigned := reflect.TypeOf(uint16(0))
	types := []reflect.Type{
		reflect.MapOf(unsigned, node), reflect.MapOf(reflect.ArrayOf(7, unsigned), reflect.SliceOf(unsigned)),
		reflect.ChanOf(reflect.RecvDir, reflect.ChanOf(reflect.BothDir, node)), reflect.PointerTo(reflect.PointerTo(reflect.PointerTo(node))),
		reflect.FuncOf([]reflect.Type{text, reflect.SliceOf(unsigned)}, []reflect.Type{node, text}, true),
		reflect.StructOf([]reflect.StructField{{Name: "A", Type: text, Tag: `json:"a"`}, {Name: "B", Type: unsigned}}),
	}
	return types
}
