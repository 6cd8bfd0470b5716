// Package twin is one of two of this name.
package twin

type T struct{ A int }

var Ts = map[string]T{"two": {1}}
