// Package socketio has another name than its directory, and a dot in that.
package socketio

type Conn struct{ ID string }

type Pair[K comparable, V any] struct {
	Key K
	Val V
}

var (
	Live   = map[string]any{"a": &Conn{"a"}, "b": Pair[string, Conn]{"k", Conn{"v"}}}
	ByConn = map[Conn]*Conn{{"x"}: {"y"}}
	Pairs  = map[string]Pair[string, Conn]{"p": {"k", Conn{"v"}}}
)
