"""The vocabulary against the code: each word that the pipeline can produce has a meaning, and vice versa."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

import pipeline
from pipeline import vocabulary
from pipeline.vocabulary import LANDMARK_SOURCES, REJECT_REASONS, STATUSES, LandmarkSource, RejectReason, Status

REASON_OF = {"RejectedImage": 1, "ImageError": 0, "DetectionFailure": 0, "ImageRow": 6, "ImageTable": 2}
"""Where each of these takes a reason: the position of an argument named as in `REASON_NAMES`."""
REASON_NAMES = ("reason", "reasons")
SOURCE_OF = {"DetectedFace": 0, "WrittenSample": 1}
SOURCE_NAMES = ("landmark_source",)

Function = ast.FunctionDef
Scope = Function | None


class Code:
    """Resolves expressions of a program to the words of the vocabulary that they can be.

    Names are followed through assignments, loops, parameters and the values that functions return
    or yield. Values that come from files have no words here.
    """

    def __init__(self, *modules: ast.Module) -> None:
        self.functions: dict[str, list[Function]] = {}
        self.calls: list[tuple[ast.Call, Scope]] = []
        for module in modules:
            self._collect(module, None)

    def _collect(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Call):
            self.calls.append((node, scope))
        if isinstance(node, Function):
            self.functions.setdefault(node.name, []).append(node)
            scope = node
        for child in ast.iter_child_nodes(node):
            self._collect(child, scope)

    def arguments(self, positions: dict[str, int], names: tuple[str, ...]) -> set[str]:
        """Return the words that calls of certain classes pass as a certain argument."""
        found: set[str] = set()
        for call, scope in self.calls:
            position = positions.get(called(call))
            if position is not None:
                found |= self.words(argument(call, position, names), scope)
        return found

    def words(self, node: ast.AST | None, scope: Scope, seen: frozenset[object] = frozenset()) -> set[str]:
        """Return the words that an expression can be."""
        match node:
            case ast.Constant(value=str(word)):
                return {word}
            case ast.Name(id=name) | ast.Attribute(attr=name) if isinstance(getattr(vocabulary, name, None), str):
                return {getattr(vocabulary, name)}
            case ast.Name(id=name) if scope is not None and (scope, name) not in seen:
                seen |= {(scope, name)}
                parts = [*bindings(name, scope), *self._passed(name, scope)]
            case ast.IfExp(body=one, orelse=other):
                parts = [(one, None, scope), (other, None, scope)]
            case ast.BoolOp(values=nodes) | ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                parts = [(each, None, scope) for each in nodes]
            case ast.BinOp(left=left, right=right):
                parts = [(left, None, scope), (right, None, scope)]
            case ast.ListComp(elt=each) | ast.GeneratorExp(elt=each) | ast.NamedExpr(value=each):
                parts = [(each, None, scope)]
            case ast.Call():
                parts = [(node, None, scope)]
            case _:
                return set()
        found: set[str] = set()
        for part, index, its_scope in parts:
            for value, value_scope in self._values(part, its_scope, index, seen):
                found |= self.words(value, value_scope, seen | {value})
        return found

    def _passed(self, name: str, function: Function) -> Iterator[tuple[ast.AST | None, None, Scope]]:
        """Yield what the calls of a function pass as a parameter."""
        parameters = [parameter.arg for parameter in function.args.args if parameter.arg != "self"]
        if name in parameters:
            for call, scope in self.calls:
                if called(call) == function.name:
                    yield argument(call, parameters.index(name), (name,)), None, scope

    def _values(
        self, node: ast.AST | None, scope: Scope, index: int | None, seen: frozenset[object]
    ) -> Iterator[tuple[ast.AST | None, Scope]]:
        """Yield an expression, or one element of it; for a call, what the functions of that name give."""
        if isinstance(node, ast.Call):
            for function in self.functions.get(called(node), []):
                if function not in seen:
                    for value in results(function):
                        yield from self._values(value, function, index, seen | {function})
        elif index is None:
            yield node, scope
        elif isinstance(node, ast.Tuple) and index < len(node.elts):
            yield node.elts[index], scope


def called(call: ast.Call) -> str:
    """Return the name of what is called, without its module or object."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def argument(call: ast.Call, position: int, names: tuple[str, ...]) -> ast.AST | None:
    by_name = [keyword.value for keyword in call.keywords if keyword.arg in names]
    return by_name[0] if by_name else call.args[position] if position < len(call.args) else None


def results(function: Function) -> Iterator[ast.AST]:
    """Yield what a function returns or yields."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None:
            yield node.value


def bindings(name: str, function: Function) -> Iterator[tuple[ast.AST | None, int | None, Scope]]:
    """Yield the expressions that a name is bound to in a function, or of which element of them."""
    values: list[ast.expr | None]
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
                values = [value]
            case ast.For(target=target, iter=items) | ast.comprehension(target=target, iter=items):
                values = [*items.elts] if isinstance(items, ast.Tuple | ast.List) else [items]
            case _:
                continue
        if isinstance(target, ast.Name) and target.id == name:
            yield from ((value, None, function) for value in values)
        if isinstance(target, ast.Tuple):
            for index, element in enumerate(target.elts):
                if isinstance(element, ast.Name) and element.id == name:
                    yield from ((value, index, function) for value in values)


@pytest.fixture(scope="module")
def code() -> Code:
    files = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
    return Code(*(ast.parse(file.read_text(encoding="utf-8"), str(file)) for file in files))


def test_the_reasons_that_the_code_gives_are_those_of_the_vocabulary(code: Code) -> None:
    assert code.arguments(REASON_OF, REASON_NAMES) == set(REJECT_REASONS)


def test_the_landmark_sources_that_the_code_gives_are_those_of_the_vocabulary(code: Code) -> None:
    assert code.arguments(SOURCE_OF, SOURCE_NAMES) == set(LANDMARK_SOURCES)


@pytest.mark.parametrize(
    ("meanings", "words"), [(LANDMARK_SOURCES, LandmarkSource), (REJECT_REASONS, RejectReason), (STATUSES, Status)]
)
def test_every_word_has_a_meaning_of_one_line(meanings: Mapping[str, str], words: Any) -> None:
    assert tuple(meanings) == get_args(words)
    for meaning in meanings.values():
        assert meaning.strip() == meaning != ""
        assert len(meaning.splitlines()) == 1
        assert meaning.endswith(".")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ImageError('burnt', 'x')", {"burnt"}),
        ("ImageError(reason=vocabulary.EMPTY, detail='x')", {"empty"}),
        ("RejectedImage(row, MISSING if late else UNREADABLE)", {"missing", "unreadable"}),
        ("RejectedImage(row, row.reason)", set()),
        ("def f(row):\n reason, png = None, b''\n reason = reason or 'a'\n RejectedImage(row, reason)", {"a"}),
        (
            "def f(row, reason):\n RejectedImage(row, reason)\ndef g(row):\n f(row, 'a')\n f(row, reason='b')",
            {"a", "b"},
        ),
        (
            "def f():\n return 'a' if x == 'b' else None\nImageTable(ids, keys, [f() for _ in ids] + ['c'] * 2)",
            {"a", "c"},
        ),
        (
            "def f(self):\n for r, x in self.g():\n  RejectedImage(row, r)\n"
            "def g(self):\n yield 'a', 1\n yield from self.h()\ndef h(self):\n yield 'b', 'no'",
            {"a", "b"},
        ),
        ("def f(row):\n for r, x in (('a', 'no'), (late, 'b')):\n  RejectedImage(row, r)", {"a"}),
        ("def f(n):\n return f(n - 1)\nRejectedImage(row, f(3))", set()),
    ],
)
def test_words_are_found_however_they_get_there(source: str, expected: set[str]) -> None:
    assert Code(ast.parse(source)).arguments(REASON_OF, REASON_NAMES) == expected
