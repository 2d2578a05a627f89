"""Fuzz one parser with atheris, which learns from the lines that each input reaches: a process of its own."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ["pipeline", "regions", "training"]


def main() -> None:
    """Fuzz until the time is up; libFuzzer then prints the number of runs and ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.faults.data import Data
        from tests.faults.fuzz_targets import TARGETS
    logging.disable(logging.CRITICAL)
    target, data = TARGETS[options.target], Data(options.data)
    corpus, scratch = (Path(tempfile.mkdtemp(dir=options.data)) for _ in range(2))
    for index, content in enumerate(target.seeds(data)):
        (corpus / f"seed{index}").write_bytes(content)
    flags = ["-timeout=30", f"-max_total_time={options.seconds}", f"-seed={options.seed + 1}", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], str(corpus), *flags, f"-artifact_prefix={scratch}/"], target.open(data, scratch))
    random.seed(options.seed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
