"""The images, checked without building them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
NAMES = ("pipeline", "training")
FOR_COMPILING = {"gcc", "libc6-dev"}

APT_PACKAGE_OF = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}
IN_EVERY_IMAGE = re.compile(r"(linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|z|util|atomic)\.so)")


def arguments_of(image: str, name: str) -> list[str]:
    """Return the arguments of an image's instructions of one name."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "docker" / f"{image}.Dockerfile").read_text())
    instructions = re.findall(r"^([A-Z]+) (.+)$", text, re.MULTILINE)
    return [arguments for instruction, arguments in instructions if instruction == name]


def test_base_images_are_those_of_the_pinned_beam_and_of_python() -> None:
    (pin,) = re.findall(r"^apache-beam==(\S+)$", CONSTRAINTS, re.MULTILINE)
    assert arguments_of("pipeline", "FROM") == [f"apache/beam_python${{PYTHON}}_sdk:{pin}"]
    assert arguments_of("training", "FROM") == ["python:${PYTHON}-slim-bookworm"]
    assert arguments_of("pipeline", "ARG") == arguments_of("training", "ARG") == ["PYTHON=3.11"]


def test_entrypoint_stays_that_of_the_base_image() -> None:
    assert not arguments_of("pipeline", "ENTRYPOINT")
    assert not arguments_of("pipeline", "CMD")


@pytest.mark.parametrize("image", NAMES)
def test_all_that_is_copied_is_there_and_not_ignored(image: str) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for arguments in arguments_of(image, "COPY") for source in arguments.split()[:-1]]
    assert sorted(sources) == sorted(kept)
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("image", NAMES)
def test_all_packages_of_setup_are_copied(image: str) -> None:
    (packages,) = re.findall(r"packages=find_packages\(include=\[([^]]+)\]", (ROOT / "setup.py").read_text())
    copied = {arguments.split()[0] for arguments in arguments_of(image, "COPY")}
    names = set(re.findall(r'"(\w+)"', packages))
    assert {"pipeline", "regions", "training"} <= names <= copied


@pytest.mark.slow
@pytest.mark.parametrize("image", NAMES)
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's loader")
def test_apt_packages_are_those_that_the_libraries_load(image: str, tmp_path: Path) -> None:
    """Ask the loader which libraries outside of the wheels the libraries inside of them need."""
    (command,) = [run for run in arguments_of(image, "RUN") if run.startswith("python -c ")]
    code = command.removeprefix("python -c ").strip('"')
    loader = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(tmp_path / "loaded")}
    environment = {**os.environ, **loader, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    text = "".join(file.read_text(errors="replace") for file in tmp_path.glob("loaded.*"))
    needs = set(re.findall(r"file=(\S+) \[0\];\s+needed by \S+/site-packages/", text))
    assert "libGL.so.1" in needs
    in_wheels = {Path(path).name for path in re.findall(r"calling init: (\S+/site-packages/\S+)", text)}
    outside = {name for name in needs if Path(name).name not in in_wheels and not IN_EVERY_IMAGE.match(name)}

    (install,) = [run for run in arguments_of(image, "RUN") if "apt-get install" in run]
    (installed,) = re.findall(r"--no-install-recommends (.+?) &&", install)
    assert {APT_PACKAGE_OF.get(name, name) for name in outside} == set(installed.split()) - FOR_COMPILING
