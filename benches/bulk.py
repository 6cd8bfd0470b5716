"""Writes a Go program of about 100 MB when it is built without optimisation and with its DWARF uncompressed: many packages
of types, each with a map of its own and code that uses it, as big services have them."""

from pathlib import Path

PACKAGES, TYPES = 200, 80

TYPE = """
type T{n} struct {{
	ID       int64
	Name     string
	Tags     []string
	Parent   *T{n}
	Children map[string]*T{n}
	Scores   [{n}%8 + 1]float64
	Done     func(*T{n}, error) bool
	Stream   chan *T{n}
	Extra    any
}}

var All{n} = map[string]*T{n}{{}}

func (t *T{n}) Add(name string, child *T{n}) (old *T{n}, err error) {{
	if t.Children == nil {{
		t.Children = map[string]*T{n}{{}}
	}}
	old, found := t.Children[name]
	if found && old == child {{
		return old, fmt.Errorf("%s is there already", name)
	}}
	child.Parent, t.Children[name] = t, child
	t.Tags = append(t.Tags, name)
	return old, nil
}}

func (t *T{n}) Total(depth int) (sum float64) {{
	for _, score := range t.Scores {{
		sum += score
	}}
	for name, child := range t.Children {{
		if depth > 0 && strings.HasPrefix(name, t.Name) {{
			sum += child.Total(depth - 1)
		}}
	}}
	return sum
}}

func use{n}(name string) any {{
	t := &T{n}{{ID: {n}, Name: name, Stream: make(chan *T{n}, 1)}}
	All{n}[name] = t
	if old, err := t.Add(name, &T{n}{{}}); err != nil {{
		return old
	}}
	t.Extra = t.Total(2)
	return t
}}
"""

MAIN = """package main

import (
	"fmt"
	"runtime/debug"
{imports}
)

var cache = map[string]int{{}}

func main() {{
	debug.SetTraceback("crash")
	uses := []func(string) int{{{uses}}}
	for i, use := range uses {{
		cache[fmt.Sprint("package ", i)] = use("first")
	}}
	panic("dumped")
}}
"""


def write(home):
    """Writes the module into the directory `home`."""
    (home / "go.mod").write_text("module bulk.example/bulk\n\ngo 1.21\n")
    numbers = range(PACKAGES)
    for package in numbers:
        text = f'package p{package}\n\nimport (\n\t"fmt"\n\t"strings"\n)\n'
        text += "".join(TYPE.format(n=n) for n in range(TYPES))
        uses = "".join(f"\tif use{n}(name) != nil {{\n\t\tcount++\n\t}}\n" for n in range(TYPES))
        text += f"\nfunc Use(name string) (count int) {{\n{uses}\treturn count\n}}\n"
        folder = Path(home) / f"p{package}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "p.go").write_text(text)
    imports = "\n".join(f'\t"bulk.example/bulk/p{n}"' for n in numbers)
    (home / "main.go").write_text(MAIN.format(imports=imports, uses=", ".join(f"p{n}.Use" for n in numbers)))
