// Command names has maps in packages whose import paths are not their names, and sync.Maps inside values. Each variable is
// printed under the names that Go programmers call it by, with types as %T prints them; a sync.Map inside a value as the
// map[any]any that it stands for, from a copy of the value that has one.
package main

import (
	"sync"

	"mapscope.example/samples/truth"

	socketio "mapscope.example/samples/names/go-socket.io"
	lib "mapscope.example/samples/names/lib/v2"
	one "mapscope.example/samples/names/one/twin"
	tilde "mapscope.example/samples/names/til~de"
	two "mapscope.example/samples/names/two/twin"
	yaml "mapscope.example/samples/names/yaml.v3"
)

// Größe has letters that are no ASCII.
type Größe struct{ Länge int }

// Holder has a sync.Map where Copied has a map.
type (
	Holder struct {
		Name string
		M    sync.Map
		Deep [1]struct{ sync.Map }
	}
	Copied struct {
		Name string
		M    map[any]any
		Deep [1]struct{ Map map[any]any }
	}
)

var (
	Maße = map[string]Größe{"ä": {1}}

	Held    = map[string]*Holder{}
	Slices  = map[int][]*Holder{}
	Boxed   = map[string]any{}
	Pointed = map[string]*sync.Map{}

	heldCopy    = map[string]*Copied{}
	slicesCopy  = map[int][]*Copied{}
	boxedCopy   = map[string]any{}
	pointedCopy = map[string]*map[any]any{}
)

// holder makes a Holder of n entries, of which some were changed and deleted since, and what it should hold.
func holder(name string, n int) (*Holder, *Copied) {
	h, c := &Holder{Name: name}, &Copied{Name: name, M: map[any]any{}}
	c.Deep[0].Map = map[any]any{}
	for i := 0; i < n; i++ {
		h.M.Store(i, name)
		h.Deep[0].Store(name, i)
		c.M[i], c.Deep[0].Map[name] = name, i
	}
	if n > 2 {
		h.M.Range(func(any, any) bool { return true })
		h.M.Delete(1)
		h.M.Store(0, lib.T{A: n})
		h.M.Store("new", &lib.T{A: n})
		delete(c.M, 1)
		c.M[0], c.M["new"] = lib.T{A: n}, &lib.T{A: n}
	}
	return h, c
}

func main() {
	truth.Start()
	for i, name := range []string{"none", "one", "many"} {
		h, c := holder(name, []int{0, 1, 40}[i])
		Held[name], heldCopy[name] = h, c
		Slices[i], slicesCopy[i] = []*Holder{h, h}, []*Copied{c, c}
		Boxed[name], boxedCopy[name] = &h.M, &c.M
		Pointed[name], pointedCopy[name] = &h.M, &c.M
	}
	truth.Map("mapscope.example/samples/names/go-socket.io.Live", &socketio.Live, "go-socket.io.Live socketio.Live")
	truth.Map("mapscope.example/samples/names/go-socket.io.ByConn", &socketio.ByConn, "names/go-socket.io.ByConn socketio.ByConn")
	truth.Map("mapscope.example/samples/names/go-socket.io.Pairs", &socketio.Pairs, "socketio.Pairs")
	truth.Map("mapscope.example/samples/names/yaml.v3.Nodes", &yaml.Nodes, "yaml.v3.Nodes yaml.Nodes")
	truth.Map("mapscope.example/samples/names/lib/v2.Ts", &lib.Ts, "v2.Ts lib/v2.Ts lib.Ts")
	truth.Map("mapscope.example/samples/names/til~de.Ts", &tilde.Ts, "til~de.Ts tilde.Ts")
	truth.Map("mapscope.example/samples/names/one/twin.Ts", &one.Ts, "one/twin.Ts")
	truth.Map("mapscope.example/samples/names/two/twin.Ts", &two.Ts, "two/twin.Ts")
	truth.Map("main.Maße", &Maße, "")
	truth.Unlisted("main.Held", &Held, "main.heldCopy")
	truth.Unlisted("main.Slices", &Slices, "main.slicesCopy")
	truth.Unlisted("main.Boxed", &Boxed, "main.boxedCopy")
	truth.Unlisted("main.Pointed", &Pointed, "main.pointedCopy")
	truth.Map("main.heldCopy", &heldCopy, "copy")
	truth.Map("main.slicesCopy", &slicesCopy, "copy")
	truth.Map("main.boxedCopy", &boxedCopy, "copy")
	truth.Map("main.pointedCopy", &pointedCopy, "copy")
	truth.Ready(truth.Mode())
}
