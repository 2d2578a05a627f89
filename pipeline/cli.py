"""The ``attparse`` command."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from pipeline.building.refine import SEGMENTATION
from pipeline.building.run import run
from pipeline.config import JoinConfig, RunConfig
from pipeline.demo import make_sample
from pipeline.detection.detectors import MEDIAPIPE
from pipeline.drawing.preview import write_preview
from pipeline.errors import InputError, RunError
from pipeline.formats.dataset_json import DatasetFile
from pipeline.handlabel.handlabel import ExportCounts, ImportCounts, export_rejects, import_labels
from pipeline.release.dataset_card import bytes_by_kind
from pipeline.release.join import join, rejected_images
from pipeline.release.release import ReleaseConfig, release
from pipeline.release.release_json import RESOLUTIONS, is_release
from pipeline.release.verify_release import verify_release
from pipeline.verify import verify

REJECTED_AS = {"missing": "are missing", "differs": "differ from the publisher's", "unlabelled": "have no labels"}

TAKES_BEAM_OPTIONS = ("run", "join")
DONE, FAILED, UNUSABLE, LOW_COVERAGE = 0, 1, 2, 3

EPILOG = """exit codes: 0 done; 1 failed; 2 bad arguments or unusable input;
3 done, but a smaller share of the images than --min_coverage was written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _set_up_messages()
    parser = make_parser()
    options, others = parser.parse_known_args(argv)
    if others and options.command not in TAKES_BEAM_OPTIONS:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        code: int = COMMANDS[options.command](options, others)
    except InputError as error:
        print(f"attparse: {error}", file=sys.stderr)
        return UNUSABLE
    except (RunError, OSError) as error:
        print(f"attparse: failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("attparse: interrupted; run the same command again to go on", file=sys.stderr)
        sys.stderr.flush()
        os._exit(FAILED)  # worker threads are not waited for: what they leave half-written has no name yet
    return code


def _set_up_messages() -> None:
    """Print our own messages as they are, and of Beam's only those that a user must see."""
    log = logging.getLogger("attparse")
    log.handlers = [logging.StreamHandler()]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="attparse",
        description="Turn a face-attribute data set into training data that says where each attribute is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    demo = commands.add_parser(
        "demo", help="build a small built-in sample", description="Build a small built-in sample."
    )
    demo.add_argument("--output", required=True, metavar="OUT", help="folder to write")
    check = commands.add_parser(
        "verify",
        help="check a finished run or a release",
        description="Recompute every checksum and count, read every sample.",
    )
    check.add_argument("output", metavar="OUT|REL", help="folder of the run, or of the release")
    sheet = commands.add_parser(
        "preview", help="draw a contact sheet", description="Draw regions and landmarks over samples of a run."
    )
    sheet.add_argument("output", metavar="OUT", help="folder of the run")
    sheet.add_argument("--to", required=True, metavar="F.png", help="image to write")
    sheet.add_argument("--samples", type=_positive, metavar="N", default=24, help="number of faces (default: 24)")
    choice = sheet.add_mutually_exclusive_group()
    choice.add_argument("--region", metavar="NAME", help="draw one region instead of all")
    choice.add_argument("--attribute", metavar="NAME", help="draw the mask of one attribute instead of the regions")
    _add_handlabel(commands)
    _add_release(commands)
    return parser


def _add_run(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="build the shards of a data set",
        description="Build the shards of a data set. Shards that are complete already are kept: run again to resume.",
        epilog="Any option of Apache Beam may follow, such as --direct_num_workers=4 or --runner=DataflowRunner.\n"
        + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    path = "local, gs:// or s3://"
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help=f"folder of the images ({path})")
    add("--labels", required=True, metavar="FILE", help="label file: CelebA's text layout or CSV")
    add("--output", required=True, metavar="OUT", help=f"folder to write ({path})")
    add("--partition", metavar="F", help="split of each image (without it, all images are training images)")
    add("--bboxes", metavar="F", help="face box of each image: x, y, width, height")
    add("--points", metavar="F", help="five points of each image: eyes, nose, mouth corners")
    add(
        "--landmarks",
        metavar="PATH",
        action="append",
        default=[],
        help="68 landmarks made elsewhere: a CSV table, OpenFace's output, .pts files, a former run (may be repeated)",
    )
    add("--detectors", metavar="NAMES", default=MEDIAPIPE, help="mediapipe, dlib or both, tried in this order")
    add(
        "--landmarker", metavar="F.task", help="model file for MediaPipe's Face Landmarker (default: built-in FaceMesh)"
    )
    add("--dlib_model", metavar="F.dat", help="dlib's 68-point model (default: the one of face_recognition_models)")
    add(
        "--attribute_table",
        metavar="NAME|F.toml",
        default="celeba",
        help="regions per attribute: celeba, paper, refined or a file (default: celeba)",
    )
    add("--crop", choices=("face", "none"), default="face", help="crop about the face, or only resize (default: face)")
    add(
        "--refine",
        choices=(SEGMENTATION,),
        help="cut the background out of crown, ears and neck (default: outlines by landmarks alone)",
    )
    add("--samples_per_shard", type=_positive, metavar="N", default=1000, help="at most (default: 1000)")
    add("--seed", type=int, metavar="N", default=0, help="of the order of the images (default: 0)")
    add("--limit", type=_positive, metavar="N", help="take only the first N label rows")
    add("--skip_missing", action="store_true", help="leave out label rows whose image is missing")
    add("--min_coverage", type=_share, metavar="SHARE", default=0.99, help="for exit code 3 (default: 0.99)")


def _add_handlabel(commands: Any) -> None:
    parser = commands.add_parser(
        "handlabel",
        help="place landmarks by hand",
        description="Place the landmarks of rejected images by hand, with labelme.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import")
    export = actions.add_parser(
        "export",
        help="copy the rejects out, for labelme",
        description="Copy the images without a usable face, each with a labelme file of 68 points to move.",
    )
    export.add_argument("output", metavar="OUT", help="folder of the run")
    export.add_argument("--to", required=True, metavar="DIR", help="folder to make")
    export.add_argument("--images", metavar="DIR", help="folder of the images, if no longer where the run found them")
    back = actions.add_parser(
        "import",
        help="turn what was labeled into a CSV file",
        description="Turn the files that were saved in labelme into a CSV file for attparse run --landmarks.",
    )
    back.add_argument("folder", metavar="DIR", help="folder that export made")
    back.add_argument("--to", required=True, metavar="landmarks.csv", help="CSV file to write")


def _add_release(commands: Any) -> None:
    parser = commands.add_parser(
        "release",
        help="write masks and landmarks without images, to publish them",
        description="Write what a finished run made, without any image: masks, landmarks, polygons, a dataset card.",
    )
    parser.add_argument("output", metavar="OUT", help="folder of the run")
    parser.add_argument("--to", required=True, metavar="REL", help="folder to make")
    parser.add_argument(
        "--resolution",
        choices=RESOLUTIONS,
        default=RESOLUTIONS[0],
        help="of the masks: as in the shards, as their crops, or as the crop in the source image (default: 96x76)",
    )
    parser.add_argument(
        "--without_labels", action="store_true", help="landmarks and polygons only: masks would tell the labels"
    )
    parser.add_argument("--url", help="where the release will be found, for croissant.json")
    parser.add_argument("--creator", metavar="NAME", help="who publishes it, for croissant.json")
    back = commands.add_parser(
        "join",
        help="build the shards again from a release and your own images",
        description="Build the shards of a release with your own copy of the images, without any detector. Run the"
        " same command again to resume.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    back.add_argument("release", metavar="REL", help="folder of the release")
    back.add_argument("--images", required=True, metavar="DIR", help="folder of your images")
    back.add_argument("--labels", metavar="F", help="label file, where the release has no labels or yours count")
    back.add_argument("--output", required=True, metavar="OUT", help="folder to write")
    back.add_argument(
        "--min_coverage", type=_share, metavar="SHARE", default=0.99, help="for exit code 3 (default: 0.99)"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected 0 to 1")
    return value


def _run(options: argparse.Namespace, beam_options: list[str]) -> int:
    arguments = {name: value for name, value in vars(options).items() if name != "command"}
    arguments["landmarks"] = tuple(arguments["landmarks"])
    config = RunConfig(**arguments, beam_options=tuple(beam_options))
    return _tell_result(run(config), config.output, config.min_coverage)


def _tell_result(document: DatasetFile | None, output: str, min_coverage: float) -> int:
    """Print what came out of a run and return the exit code."""
    if document is None:
        print("dry run: nothing was written or sent")
        return DONE
    written, rejected = document.samples, document.rejected
    print(f"{written + rejected} images = {written} written + {rejected} rejected")
    for title, counts in (("written by", document.landmark_sources), ("rejected as", document.rejects)):
        for name, count in counts.items():
            print(f"  {title} {name}: {count}")
    print(f"{len(document.shards)} shards in {output}; look at {os.path.join(output, 'report.html')}")
    coverage = written / max(written + rejected, 1)
    if coverage < min_coverage:
        print(
            f"attparse: coverage {coverage:.4f} is under --min_coverage {min_coverage}: report.html has the rejects",
            file=sys.stderr,
        )
        return LOW_COVERAGE
    return DONE


def _demo(options: argparse.Namespace, _: list[str]) -> int:
    config = make_sample(os.path.join(options.output, "sample"), options.output)
    return _tell_result(run(config), config.output, config.min_coverage)


def _verify(options: argparse.Namespace, _: list[str]) -> int:
    problems = 0
    check = verify_release if is_release(options.output) else verify
    for problem in check(options.output):
        tqdm.write(problem, file=sys.stderr)
        problems += 1
    print(f"{options.output}: {problems} problems" if problems else f"{options.output}: all checks passed")
    return FAILED if problems else DONE


def _preview(options: argparse.Namespace, _: list[str]) -> int:
    write_preview(options.output, options.to, options.samples, options.attribute, options.region)
    print(options.to)
    return DONE


def _handlabel(options: argparse.Namespace, _: list[str]) -> int:
    if options.action == "export":
        _tell_export(export_rejects(options.output, options.to, options.images), options.to)
    else:
        _tell_import(import_labels(options.folder, options.to), options.to)
    return DONE


def _tell_export(exported: ExportCounts, to: str) -> None:
    if exported.copied:
        print(f"{sum(exported.copied.values())} images to label in {to}: {_counts(exported.copied)}")
    else:
        print("nothing to label: no image was rejected for want of a usable face")
    if exported.left_out:
        total = sum(exported.left_out.values())
        print(f"{total} other rejects have no image that could be labeled: {_counts(exported.left_out)}")
    if exported.copied:
        folder = shlex.quote(to)
        print(f"next: labelme {folder}; then: attparse handlabel import {folder} --to landmarks.csv")


def _tell_import(imported: ImportCounts, to: str) -> None:
    absent = f", {imported.absent} no longer there" if imported.absent else ""
    print(f"{imported.labeled} images labeled, {imported.untouched} not yet{absent}")
    print(f"next: attparse run ... --landmarks {shlex.quote(to)}, added to the options of the former run")


def _release(options: argparse.Namespace, _: list[str]) -> int:
    arguments = {name: value for name, value in vars(options).items() if name != "command"}
    files = release(ReleaseConfig(**arguments))
    for name, size in bytes_by_kind(files).items():
        print(f"  {name}: {size:,} bytes")
    print(f"{options.to}: {len(files)} files; look at {os.path.join(options.to, 'README.md')}")
    return DONE


def _join(options: argparse.Namespace, beam_options: list[str]) -> int:
    arguments = {name: value for name, value in vars(options).items() if name != "command"}
    joined = join(JoinConfig(**arguments, beam_options=tuple(beam_options)))
    if joined is None:
        return _tell_result(None, options.output, options.min_coverage)
    document, equal = joined
    for reason, image_ids in rejected_images(options.output, document).items():
        print(f"{len(image_ids)} images {REJECTED_AS.get(reason, reason)}: {', '.join(image_ids[:3])}", end="")
        print(" ..." if len(image_ids) > 3 else "")
    code = _tell_result(document, options.output, options.min_coverage)
    print(f"{equal} of {len(document.shards)} shards are the publisher's, byte for byte")
    return code


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "run": _run,
    "demo": _demo,
    "verify": _verify,
    "preview": _preview,
    "handlabel": _handlabel,
    "release": _release,
    "join": _join,
}
