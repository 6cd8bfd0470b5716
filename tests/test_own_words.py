"""The Python side decides nothing by reading what mapscope says (tests/own_words.rs holds the Rust side to the same)."""

import ast
import re

import pytest
from conftest import ROOT

#: Compared words that stand in our sentences too, and are another's first: file -> word -> whose.
OTHERS = {"gdb.py": {"target:": "gdb's: a file of the target's system"}}

RUST_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)


def rust_sentences():
    """What the Rust side says: literals of more than one word, placeholders cut out."""
    for path in sorted((ROOT / "src").rglob("*.rs")):
        text = path.read_text().split("#[cfg(test)]")[0]
        for literal in RUST_LITERAL.findall(text):
            yield from pieces(re.sub(r"\\\s+", "", literal), r"\{[^}]*\}")


def pieces(text, placeholder):
    return [piece for piece in re.split(placeholder, text) if len(piece.split()) > 1]


def text_of(node):
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def compared(tree):
    """(line, literal, whether a part is enough) of all that a text is compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            left = node.left
            for op, right in zip(node.ops, node.comparators):
                # `"words" in text` asks for a part; `text in ("words", …)` and `==` for the whole.
                part = isinstance(op, (ast.In, ast.NotIn)) and isinstance(left, ast.Constant)
                yield from ((node.lineno, text, part) for text in text_of(left))
                yield from ((node.lineno, text, False) for text in text_of(right))
                left = right
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (
                "startswith", "endswith", "find", "rfind", "index", "count", "removeprefix", "removesuffix", "split",
                "partition", "match", "search", "fullmatch", "compile"):
            yield from ((node.lineno, text, True) for argument in node.args for text in text_of(argument))
        elif isinstance(node, ast.MatchValue):
            yield from ((node.value.lineno, text, False) for text in text_of(node.value))


def python_sentences(trees):
    for tree in trees.values():
        places = {(line, text) for line, text, _ in compared(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (node.lineno, node.value) not in places:
                yield from pieces(node.value, r"%[-\d.]*[a-z]")


def found(trees, sentences):
    """Comparisons with a sentence, or with a part of three letters or more: fewer are in all of them."""
    def ours(text, part):
        letters = len(re.sub(r"[\W\d_]", "", text))
        return letters > 2 and (text in sentences or part and any(text in said for said in sentences))
    return [(name, line, text) for name, tree in trees.items() for line, text, part in compared(tree)
            if ours(text, part) and text not in OTHERS.get(name, {})]


def test_nothing_decides_by_what_we_say():
    trees = {path.name: ast.parse(path.read_text()) for path in sorted((ROOT / "python/mapscope").glob("*.py"))}
    assert len(trees) > 4
    assert found(trees, {*rust_sentences(), *python_sentences(trees)}) == []


@pytest.mark.parametrize("line", [
    'if "returns to itself" in str(error): pass', 'if str(error).startswith("no map could"): pass',
    'done = error == "the map is nil"', 're.search("never ends", answer)', 'x = answer.split("note: ")'])
def test_a_comparison_with_our_words_is_seen(line):
    says = {"overflow chain of ", " returns to itself at ", "no map could be read", "the map is nil", "note: the lookup never ends"}
    assert found({"x.py": ast.parse(line)}, says)
    assert not found({"x.py": ast.parse('if name.startswith("target:") or kind == "native": pass')}, says)
