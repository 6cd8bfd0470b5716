package tilde

type T struct{ A int }

var Ts = map[string]any{"t": T{5}}
