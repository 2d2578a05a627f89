"""What the README and the pages of docs/ promise: snippets run, links lead somewhere, options exist."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from torch.distributed.run import get_args_parser

from pipeline.parser import make_parser
from training import evaluate, export, predict, train

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, *sorted((ROOT / ".github").glob("*.md"))]
TEXT_FILES = [*PAGES, ROOT / "NOTICE", *sorted((ROOT / ".github").rglob("*.yml"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

MAX_WIDTH = 100
OPTION = re.compile(r"(?<![\w-])--[a-z]\w*")
OURS = re.compile(r"^(?:\S*/)?(attparse(?:-\w+)?)\s+(.*)")
DOCKER_OPTIONS = {"--build", "--platform"}  # --build-arg

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def beam_options() -> set[str]:
    """Return all options of Apache Beam."""
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return set(parser._option_string_actions)


@functools.cache
def options_by_command() -> dict[str, set[str]]:
    """Return the options of each of our commands, such as ``attparse handlabel export``."""
    parsers: dict[str, argparse.ArgumentParser] = {
        "attparse": make_parser(),
        "attparse-train": train.make_parser(),
        "attparse-evaluate": evaluate.make_parser(),
        "attparse-predict": predict.make_parser(),
        "attparse-export": export.make_parser(),
    }
    options = {}
    while parsers:
        name, parser = parsers.popitem()
        options[name] = set(parser._option_string_actions)
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            choices: dict[str, Any] = dict(action.choices or {})
            parsers |= {f"{name} {choice}": parser for choice, parser in choices.items()}
    for name in ("attparse run", "attparse join"):
        options[name] |= beam_options()
    return options


def tool_options() -> set[str]:
    """Return the options of the scripts in tools/ and benchmarks/."""
    scripts = [*(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    return {option for script in scripts for option in re.findall(r'"(--\w+)"', script.read_text(encoding="utf-8"))}


def commands_of(text: str) -> Iterator[str]:
    """Yield the command lines in the code blocks of a page."""
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE):
        if not language:
            yield from re.sub(r"\\\n\s*", "", block).splitlines()


def inline_code(text: str) -> Iterator[str]:
    """Yield the code in the running text of a page."""
    yield from re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))


def command_name(name: str, arguments: str) -> str:
    """Return the name of a command with those of its subcommands."""
    known = options_by_command()
    for word in arguments.split():
        if f"{name} {word}" not in known:
            break
        name = f"{name} {word}"
    return name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_snippet_reads_a_shard(finished_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(finished_demo.parent)
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102
    assert names["image"].shape == (218, 178, 3)
    assert names["masks"].shape == (40, 96, 76)
    assert names["labels"].shape == (40,)
    assert names["masks"].any()


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for path in re.findall(r"\]\((?!https://)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


@pages
def test_files_exist(page: Path) -> None:
    for code in inline_code(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"(docs|docker|examples|regions|pipeline|training|tests|tools|benchmarks)/[\w./-]*", code):
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", TEXT_FILES, ids=lambda page: page.name)
def test_lines_are_at_most_100_wide(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > MAX_WIDTH and not re.fullmatch(r"(\[\w+\]: )?\S+", line)]


@pages
def test_options_of_commands_exist(page: Path) -> None:
    known = options_by_command()
    for line in commands_of(page.read_text(encoding="utf-8")):
        if match := OURS.match(line):
            name = command_name(match[1], match[2])
            for option in OPTION.findall(match[2]):
                assert option in known[name], f"{name}: {option}"


@pages
def test_options_in_the_text_exist(page: Path) -> None:
    known = set().union(*options_by_command().values(), tool_options(), DOCKER_OPTIONS)
    known |= set(get_args_parser()._option_string_actions)  # torchrun's
    for code in inline_code(page.read_text(encoding="utf-8")):
        for option in OPTION.findall(code):
            assert option in known, option


@pytest.mark.parametrize("package", ["pipeline", "regions", "training"])
def test_every_file_is_described_in_its_room(package: str) -> None:
    section = ARCHITECTURE.split(f"### {package}/")[1].split("##")[0]
    room, described = package, set()
    for indent, name in re.findall(r"^( *)(\w+(?:\.py|/))  ", section, flags=re.MULTILINE):
        if name.endswith("/"):
            room = f"{package}/{name.rstrip('/')}"
        else:
            described.add(f"{room if indent else package}/{name}")
    files = {file.relative_to(ROOT).as_posix() for file in (ROOT / package).rglob("*.py")}
    assert described == {file for file in files if not file.endswith(("__init__.py", "__main__.py"))}


def test_versions_agree() -> None:
    (version,) = re.findall(r'version="([^"]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
