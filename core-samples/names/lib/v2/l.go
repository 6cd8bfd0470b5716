package lib

type T struct{ A int }

var Ts = map[T][]T{{1}: {{2}, {3}}}
