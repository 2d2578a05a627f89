"""The graph of imports: without circles, and not too deep."""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path

import grimp
import pytest

LONGEST_CHAIN = 11
"""Modules of the pipeline that may be imported one by another before the first of them runs."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports but those for type checkers, imports inside functions included."""
    packages = ("pipeline", "regions", "training")
    return grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)


def imported_lines(source: str) -> set[int]:
    """Return the lines of the imports that run when a module is imported."""
    lines = set()
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines.add(node.lineno)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return lines


def imports_at_start(graph: grimp.ImportGraph, module: str) -> set[str]:
    """Return the modules that a module imports when it is imported itself."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    lines = imported_lines(Path(spec.origin).read_text(encoding="utf-8"))
    return {
        imported
        for imported in graph.find_modules_directly_imported_by(module)
        for detail in graph.get_import_details(importer=module, imported=imported)
        if detail["line_number"] in lines
    }


def circle_of(graph: grimp.ImportGraph) -> list[str]:
    """Return the modules of an import circle; empty if there is none."""
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            back = graph.find_shortest_chain(importer=imported, imported=module)
            if back:
                return [module, *back]
    return []


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    inside_a_function = graph.direct_import_exists(importer="training.predict", imported="training.prediction")
    assert inside_a_function
    assert circle_of(graph) == []


def test_a_circle_is_found() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        graph.add_import(importer=importer, imported=imported)
    assert circle_of(graph) == ["a", "b", "c", "a"]


def test_lines_of_imports_inside_functions_are_left_out() -> None:
    source = "import a\nif True:\n    import b\ndef f():\n    import c\nclass C:\n    import d\n"
    assert imported_lines(source) == {1, 3, 7}


def test_chains_of_imports_in_the_pipeline_are_short(graph: grimp.ImportGraph) -> None:
    modules = {module for module in graph.modules if module.split(".")[0] == "pipeline"}
    imports = {module: imports_at_start(graph, module) & modules for module in modules - {"pipeline.__main__"}}

    @functools.cache
    def chain_from(module: str) -> tuple[str, ...]:
        return (module, *max(map(chain_from, imports[module]), key=len, default=()))

    longest = max(map(chain_from, imports), key=len)
    assert len(longest) <= LONGEST_CHAIN, longest
