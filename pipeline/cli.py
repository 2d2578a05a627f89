"""The ``attparse`` command: exit codes, and what each command prints.

Each command imports its room only when it is called, so that ``--help`` is immediate.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.config import SOURCES, JoinConfig, PreviewConfig, ReleaseConfig, RunConfig, SourceDataset
from pipeline.errors import ImageError, InputError, ReadError, RunError, ShardError, WorkerLostError
from pipeline.parser import SOURCE_PARTS, make_parser
from regions.file_names import PATH_ERRORS
from regions.interrupts import termination_as_interrupt
from regions.messages import counted, one_line
from regions.system_libraries import library_problem

if TYPE_CHECKING:
    from pipeline.formats.dataset_json import DatasetFile
    from pipeline.handlabel.collect import ImportCounts
    from pipeline.handlabel.export import ExportCounts

TAKES_BEAM_OPTIONS = ("run", "join")
RESUMES = ("run", "join", "demo")
"""Commands that keep what is done when they are run again."""
DONE, FAILED, UNUSABLE, LOW_COVERAGE = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _set_up_messages()
    parser = make_parser()
    options, others = parser.parse_known_args(argv)
    if others and options.command not in TAKES_BEAM_OPTIONS:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        with termination_as_interrupt():
            code: int = COMMANDS[options.command](options, others)
    except (InputError, ShardError, ImageError) as error:
        print(f"attparse: {one_line(str(error))}", file=sys.stderr)
        return UNUSABLE
    except WorkerLostError as error:
        _fail_at_once(f"failed: {error}")
    except (ReadError, RunError, OSError, ImportError) as error:
        return _print_failure(error)
    except KeyboardInterrupt:
        end = " to resume" if options.command in RESUMES else ""
        _fail_at_once(f"interrupted; run the same command again{end}")
    return code


def _fail_at_once(message: str) -> NoReturn:
    """End the process without waiting for worker threads: what they leave half-written has no name yet."""
    with contextlib.suppress(OSError):  # a terminal that was closed
        print(f"attparse: {message}", file=sys.stderr, flush=True)
    os._exit(FAILED)


def _print_failure(error: ReadError | RunError | OSError | ImportError) -> int:
    """Print an error in one line and return the exit code; an ImportError of our own code is raised again."""
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        print(f"attparse: {one_line(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    problem = library_problem(error) if isinstance(error, (OSError, ImportError)) else None
    if problem is None and isinstance(error, ImportError):
        raise error
    print(f"attparse: failed: {one_line(problem or str(error))}", file=sys.stderr)
    return FAILED


def _set_up_messages() -> None:
    """Print our own messages as they are, and of Beam's only those that a user must see."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # paths that are not UTF-8
    log = logging.getLogger("attparse")
    log.handlers = [logging.StreamHandler()]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def _arguments(options: argparse.Namespace, *left_out: str) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("command", *left_out)}


def _source(options: argparse.Namespace) -> SourceDataset:
    known = SOURCES[options.source] if options.source else SourceDataset()
    return SourceDataset(**{part: getattr(options, f"source_{part}") or getattr(known, part) for part in SOURCE_PARTS})


def _import_beam(arguments: Mapping[str, Any], beam_options: Sequence[str]) -> None:
    """Import as little of Beam as a run needs; for another run than a local one, its modules import the rest."""
    from pipeline.beam_imports import import_local_beam, is_local  # noqa: PLC0415

    if is_local(beam_options, arguments.values()):
        import_local_beam()


def _run(options: argparse.Namespace, beam_options: list[str]) -> int:
    arguments = _arguments(options, *(f"source_{part}" for part in SOURCE_PARTS))
    _import_beam(arguments, beam_options)
    from pipeline.building.run import run  # noqa: PLC0415

    arguments |= {"landmarks": tuple(options.landmarks), "source": _source(options)}
    config = RunConfig(**arguments, beam_options=tuple(beam_options))
    return _print_result(run(config), config.output, config.min_coverage)


def _print_result(dataset: DatasetFile | None, output: str, min_coverage: float) -> int:
    """Print the counts of a run and return the exit code."""
    from pipeline.formats.run_folder import RunFolder  # noqa: PLC0415
    from pipeline.report.hint_check import hint_problem  # noqa: PLC0415

    if dataset is None:
        print("dry run: nothing was written or submitted")
        return DONE
    problem = hint_problem(dataset)
    if problem is not None:
        print(f"attparse: {problem}", file=sys.stderr)
    written, rejected = dataset.samples, dataset.rejected
    print(f"{counted(written + rejected, 'image')} = {written:,} written + {rejected:,} rejected")
    for title, counts in (("written by", dataset.landmark_sources), ("rejected as", dataset.rejects)):
        for name, count in counts.items():
            print(f"  {title} {name}: {count:,}")
    report = RunFolder(output).report
    print(f"{counted(len(dataset.shards), 'shard')} in {output}; see {report}")
    coverage = written / max(written + rejected, 1)
    if coverage < min_coverage:
        print(
            f"attparse: coverage {coverage:.4f} is below --min_coverage {min_coverage}: {report} lists the rejects",
            file=sys.stderr,
        )
        return LOW_COVERAGE
    return DONE if problem is None else LOW_COVERAGE


def _demo(options: argparse.Namespace, _: list[str]) -> int:
    _import_beam(_arguments(options), ())
    from pipeline.building.run import run  # noqa: PLC0415
    from pipeline.demo import make_sample  # noqa: PLC0415
    from pipeline.storage import join  # noqa: PLC0415

    config = make_sample(join(options.output, "sample"), options.output)
    return _print_result(run(config), config.output, config.min_coverage)


def _verify(options: argparse.Namespace, _: list[str]) -> int:
    from tqdm import tqdm  # noqa: PLC0415

    from pipeline.release.release_json import is_release  # noqa: PLC0415
    from pipeline.release.verify_release import verify_release  # noqa: PLC0415
    from pipeline.verify import verify  # noqa: PLC0415

    problems = 0
    check = verify_release if is_release(options.folder) else verify
    for problem in check(options.folder):
        tqdm.write(one_line(problem), file=sys.stderr)
        problems += 1
    print(f"{options.folder}: {counted(problems, 'problem') if problems else 'all checks passed'}")
    return FAILED if problems else DONE


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from pipeline.report.content import redraw_report  # noqa: PLC0415

    print(redraw_report(options.run))
    return DONE


def _preview(options: argparse.Namespace, _: list[str]) -> int:
    from pipeline.drawing.preview import write_preview  # noqa: PLC0415

    config = PreviewConfig(**_arguments(options))
    write_preview(config.run, config.output, config.samples, config.attribute, config.region)
    print(options.output)
    return DONE


def _handlabel(options: argparse.Namespace, _: list[str]) -> int:
    if options.action == "export":
        from pipeline.handlabel.export import export_rejects  # noqa: PLC0415

        _print_export(export_rejects(options.run, options.output, options.images), options.output)
    else:
        from pipeline.handlabel.collect import import_labels  # noqa: PLC0415

        _print_import(import_labels(options.folder, options.output), options.output)
    return DONE


def _print_export(exported: ExportCounts, output: str) -> None:
    if exported.copied:
        total = sum(exported.copied.values())
        print(f"{counted(total, 'image')} to annotate in {output}: {_counts(exported.copied)}")
    else:
        print("nothing to annotate: no image was rejected for lack of a usable face")
    if exported.left_out:
        total = sum(exported.left_out.values())
        print(f"{counted(total, 'other reject')} cannot be recovered by annotation: {_counts(exported.left_out)}")
    if exported.copied:
        folder = shlex.quote(output)
        print(f"next: labelme {folder}; then: attparse handlabel import {folder} --output landmarks.csv")


def _print_import(imported: ImportCounts, output: str) -> None:
    absent = f", {imported.absent:,} no longer there" if imported.absent else ""
    print(f"{counted(imported.annotated, 'image')} annotated, {imported.untouched:,} not yet{absent}")
    print(f"next: attparse run ... --landmarks {shlex.quote(output)}, added to the options of the former run")


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _release(options: argparse.Namespace, _: list[str]) -> int:
    from pipeline.release.dataset_card import bytes_by_kind  # noqa: PLC0415
    from pipeline.release.release import release  # noqa: PLC0415
    from pipeline.release.release_json import CARD  # noqa: PLC0415

    files = release(ReleaseConfig(**_arguments(options)))
    for name, size in bytes_by_kind(files).items():
        print(f"  {name}: {counted(size, 'byte')}")
    print(f"{options.output}: {counted(len(files), 'file')}; see {os.path.join(options.output, CARD)}")
    return DONE


def _join(options: argparse.Namespace, beam_options: list[str]) -> int:
    _import_beam(_arguments(options), beam_options)
    from pipeline.release.join import join, rejected_images  # noqa: PLC0415

    joined = join(JoinConfig(**_arguments(options), beam_options=tuple(beam_options)))
    if joined is None:
        return _print_result(None, options.output, options.min_coverage)
    dataset, equal = joined.dataset, joined.equal
    for reason, image_ids in rejected_images(options.output, dataset).items():
        examples = ", ".join(image_ids[:3]) + (" ..." if len(image_ids) > 3 else "")
        print(f"{counted(len(image_ids), 'image')} rejected as {reason}: {examples}")
    code = _print_result(dataset, options.output, options.min_coverage)
    print(f"{equal:,} of {counted(len(dataset.shards), 'shard')} byte-identical to the publisher's")
    return code


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "run": _run,
    "demo": _demo,
    "verify": _verify,
    "report": _report,
    "preview": _preview,
    "handlabel": _handlabel,
    "release": _release,
    "join": _join,
}
