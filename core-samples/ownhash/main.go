// Command ownhash holds a map whose hash function is the program's own: no reader can know what it computes.
package main

import (
	"reflect"
	"unsafe"

	"mapscope.example/samples/truth"
)

type Pair struct{ A, B int32 }

// Made is a map[Pair]int whose type reflect made at run time, so that its descriptor can be written to.
var Made any

// Offset of Hasher in the map type (abi.MapType, go1.21 to go1.27).
const hasherAt = 72

//go:noinline
func ownHash(key unsafe.Pointer, seed uintptr) uintptr {
	p := (*Pair)(key)
	return (seed ^ uintptr(p.A)*31 ^ uintptr(p.B)*17) * 0x9e3779b97f4a7c15
}

func main() {
	truth.Start()
	typ := reflect.MapOf(reflect.TypeOf(Pair{}), reflect.TypeOf(0))
	descriptor := (*[2]unsafe.Pointer)(unsafe.Pointer(&typ))[1]
	*(*func(unsafe.Pointer, uintptr) uintptr)(unsafe.Add(descriptor, hasherAt)) = ownHash
	made := reflect.MakeMap(typ)
	for i := int32(0); i < 300; i++ {
		made.SetMapIndex(reflect.ValueOf(Pair{i, -i}), reflect.ValueOf(int(i)*10))
	}
	Made = made.Interface()
	truth.Interface("main.Made", &Made, "hashed by the program's own function")
	truth.Ready(truth.Mode())
}
