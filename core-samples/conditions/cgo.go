//go:build cgosample

package main

// void conditions_put(void **place, void *map) { *place = map; }
import "C"
import "unsafe"

// With the tag cgosample there is a C function that a debugger can call.
func init() {
	var place unsafe.Pointer
	C.conditions_put(&place, nil)
}
