"""Reduce the markers of a resolved constraints file to the differences between Python versions.

Each marker repeats the resolved environments (pyproject.toml, ``[tool.uv]``), which is redundant
where the file is used. CUDA packages are omitted, because torch pins them exactly.
"""

import re
import sys
from pathlib import Path

HEADER = "# Made by `make constraints`: the tested set for Python 3.10 to 3.12 on Linux x86-64 and macOS arm64.\n"
PLATFORMS = r"\(*platform_machine == '(?:arm64|x86_64)' and sys_platform == '(?:darwin|linux)'\)*"
REDUNDANT = (
    r"(?:implementation_name|platform_python_implementation) != 'PyPy' and ",
    rf"\(?{PLATFORMS} or {PLATFORMS}\)?",
    r"python_full_version < '3\.13'",
)
LEFT_TO_TORCH = re.compile(r"(nvidia-|cuda-|triton)")


def tidy(line: str) -> str:
    """Return a line without the parts of its marker that hold in every environment."""
    requirement, _, marker = line.strip().partition(" ; ")
    for part in REDUNDANT:
        marker = re.sub(part, "", marker)
    parts = [part.strip() for part in re.split(r"\band\b", marker) if part.strip()]
    return " ; ".join([requirement, " and ".join(parts)]) if parts else requirement


def main() -> None:
    """Read the first file and write the second."""
    source, target = map(Path, sys.argv[1:])
    lines = [tidy(line) for line in source.read_text().splitlines() if not LEFT_TO_TORCH.match(line)]
    target.write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
