package yaml

type Node struct {
	Kind int
	Sub  map[string]*Node
}

var Nodes = map[string]*Node{"root": {1, map[string]*Node{"x": {Kind: 2}}}}
