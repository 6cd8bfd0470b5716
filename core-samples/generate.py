#!/usr/bin/env python3
"""Write a Go program with random map types, each map stopped at a random point of its growth.

    python3 core-samples/generate.py --seed 7 --maps 200 > main.go

The same seed gives the same program. The program belongs into a folder beside truth/ (build.py does that
for the sample name `generated@SEED`).
"""
import argparse
import random
import sys

LEAVES = ["bool", "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64",
          "uintptr", "float32", "float64", "complex64", "complex128", "string", "string", "string"]
COMPARABLE_EXTRA = ["any", "error", "Shape", "struct{}", "unsafe.Pointer", "chan int", "*int", "*string", "time.Time"]
OTHER_EXTRA = ["func(int) int", "[]byte", "[]string", "[]any", "map[string]int", "map[any]any"]
BIG_LENGTHS = {"byte": (120, 140), "int64": (14, 20), "string": (7, 11)}

HEAD = '''// Code made by generate.py --seed {seed} --maps {maps}. DO NOT EDIT.

package main

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"mapscope.example/samples/truth"
)

type Shape interface{{ Area() float64 }}

type Square struct{{ side float64 }}

func (s Square) Area() float64 {{ return s.side }}

type Circle struct{{ radius float64 }}

func (c *Circle) Area() float64 {{ return c.radius }}

type Code int

func (c Code) Error() string {{ return fmt.Sprint("code ", int(c)) }}

type Fault struct {{
	op   string
	code Code
}}

func (f *Fault) Error() string {{ return f.op }}

//go:noinline
func double(n int) int {{ return n + n }}

//go:noinline
func square(n int) int {{ return n * n }}
'''


class Types:
    """Random Go types as text, with the named ones declared on the way."""

    def __init__(self, rng):
        self.rng = rng
        self.declarations = []
        self.named = []  # (name, comparable)

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, items):
        return items[int(self.rng.random() * len(items))]

    def between(self, low, high):
        return low + int(self.rng.random() * (high - low + 1))

    def type(self, comparable, nesting=0):
        """A type, comparable when asked, at most four composites deep."""
        if nesting >= 4 or self.chance(0.4):
            return self.pick(LEAVES)
        makers = [self.struct, self.struct, self.array, self.big_array, self.pointer, self.reuse, self.declare, self.extra]
        if not comparable:
            makers += [self.slice, self.map]
        return self.pick(makers)(comparable, nesting)

    def extra(self, comparable, nesting):
        return self.pick(COMPARABLE_EXTRA if comparable else COMPARABLE_EXTRA + OTHER_EXTRA)

    def reuse(self, comparable, nesting):
        fit = [name for name, ok in self.named if ok or not comparable]
        return self.pick(fit) if fit else self.declare(comparable, nesting)

    def declare(self, comparable, nesting):
        text = self.type(comparable, nesting + 1)
        name = f"T{len(self.named)}"
        # A defined pointer or interface type may have no methods and cannot be embedded: keep those unnamed.
        if text.startswith("*") or text in ("any", "error", "Shape", "unsafe.Pointer", "time.Time"):
            text = f"struct {{ V {text} }}"
        self.named.append((name, comparable))
        self.declarations.append(f"type {name} {text}")
        return name

    def struct(self, comparable, nesting):
        fields, embedded = [], set()
        for i in range(self.between(0, 5)):
            if self.chance(0.15):
                fields.append(f"_ {self.pick(LEAVES)}")
            elif self.chance(0.15) and self.named:
                name, ok = self.pick(self.named)
                if (ok or not comparable) and name not in embedded:
                    embedded.add(name)
                    fields.append(name)
            else:
                fields.append(f"{'F' if self.chance(0.5) else 'f'}{i} {self.type(comparable, nesting + 1)}")
        return f"struct {{ {'; '.join(fields)} }}" if fields else "struct{}"

    def array(self, comparable, nesting):
        return f"[{self.between(0, 5)}]{self.type(comparable, nesting + 2)}"

    def big_array(self, comparable, nesting):
        """An array around the 128 bytes from which a map stores a pointer instead."""
        elem = self.pick(sorted(BIG_LENGTHS))
        return f"[{self.between(*BIG_LENGTHS[elem])}]{elem}"

    def pointer(self, comparable, nesting):
        return f"*{self.type(comparable, nesting + 2)}"

    def slice(self, comparable, nesting):
        return f"[]{self.type(False, nesting + 2)}"

    def map(self, comparable, nesting):
        return f"map[{self.type(True, nesting + 2)}]{self.type(False, nesting + 2)}"

    def plan(self):
        """The history of one map, as the fields of truth.Plan."""
        if self.chance(0.02):
            return "Nil: true"
        entries = self.pick([0, 1, self.between(2, 7), 8, 9, self.between(10, 60), self.between(10, 120), self.between(100, 700)])
        fields = [f"Entries: {entries}"]
        if self.chance(0.3):
            fields.append(f"Hint: {self.between(1, 2 * entries + 1)}")
        if self.chance(0.4):
            fields.append(f"Delete: {self.pick([5, 30, 50, 90, 100])}")
        if self.chance(0.5):
            fields.append("Grow: true")
        if self.chance(0.5):
            fields.append(f"Again: {self.between(0, 1 + entries // 16)}")
        return ", ".join(fields)


def program(seed, maps):
    """The text of the Go program."""
    types = Types(random.Random(seed))
    variables, plans = [], []
    for i in range(maps):
        variables.append(f"\tG{i} map[{types.type(True)}]{types.type(False)}")
        plans.append(types.plan())
    comparable = [name for name, ok in types.named if ok]
    other = [name for name, ok in types.named if not ok]
    out = [HEAD.format(seed=seed, maps=maps), *types.declarations, "", "var (", *variables, ")", "",
           "func main() {", "\ttruth.Start()", "\tr := &truth.Random{",
           f"\t\tState: {seed % (1 << 64)},", "\t\tFuncs: []func(int) int{double, square},", "\t\tComparable: []reflect.Type{"]
    out += [f"\t\t\treflect.TypeOf((*{t})(nil)).Elem()," for t in
            ["int", "string", "float64", "bool", "int8", "uint16", "complex64", "time.Time", "unsafe.Pointer", "*int",
             "[2]int", "Square", "*Circle", "Code", "*Fault", *comparable]]
    out += ["\t\t},", "\t\tOther: []reflect.Type{"]
    out += [f"\t\t\treflect.TypeOf((*{t})(nil)).Elem()," for t in
            ["[]int", "[]byte", "map[string]int", "func(int) int", "Square", "Code", *other]]
    out += ["\t\t},", "\t}"]
    for i, plan in enumerate(plans):
        out.append(f'\tr.Map(&G{i}, truth.Plan{{{plan}}})')
    for i, plan in enumerate(plans):
        out.append(f'\ttruth.Map("main.G{i}", &G{i}, "{plan}")')
    out += ["\ttruth.Ready(truth.Mode())", "}", ""]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--maps", type=int, default=200)
    args = parser.parse_args()
    sys.stdout.write(program(args.seed, args.maps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
