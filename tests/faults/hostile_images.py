"""Hostile and mutated images: decoded within limits of memory and time, or rejected with a reason."""

from __future__ import annotations

import contextlib
import random

import numpy as np
from PIL import Image

from pipeline import images
from pipeline.errors import ImageError
from tests.faults.bombs import BOMBS, encoded
from tests.faults.children import run_child
from tests.faults.data import ATTRIBUTES, landmark_csv
from tests.faults.injection import Count
from tests.faults.mutation import mutated
from tests.faults.table import Tally
from tests.faults.workload import RUN, World, check_end, count_images
from tests.synthetic import image
from training import face_images

MEMORY = 3 << 28
"""Bytes that an image may take."""
SECONDS = 30.0
"""Time that a decoder may take on a busy machine, both decoders of the project one after the other."""
BATCH = 250
"""Mutated images per case."""
PERIOD = 10
"""Of so many cases one is a run over a folder of hostile images."""
OF_A_RUN = 12
FORMATS = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP", "BMP", "TIFF")


def meet_images(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Decode a bomb or many mutated images, or run over a folder of both."""
    if number % PERIOD == 2:
        _run_over(world, chance, tally)
    elif number % 2:
        _decode_bomb(list(BOMBS)[(number // 2) * 7 % len(BOMBS)], tally)
    else:
        _decode_mutated(chance, tally)


def decode_twice(content: bytes) -> None:
    """Decode an image as the pipeline and as the trainer do; foreseen errors pass."""
    with contextlib.suppress(ImageError):
        pixels = images.decode(content).pixels
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8, pixels.shape
    with contextlib.suppress(ValueError):
        face_images.decode(content)


def _decode_bomb(name: str, tally: Tally) -> None:
    content = BOMBS[name]()

    def decoding() -> int:
        decode_twice(content)
        return 0

    ended = run_child(decoding, timeout=SECONDS, memory=4 * MEMORY)
    tally.faults += 1
    check_end(tally, ended, {0}, name)
    tally.check(ended.peak < MEMORY, "crashes", f"{name}: {ended.peak / 1e6:.0f} MB of memory")


def good_images() -> list[bytes]:
    """Return small images of all formats, to be mutated."""
    small = Image.fromarray(image(height=60, width=48))
    return [
        *(encoded(small, format) for format in FORMATS),
        encoded(small, "JPEG", progressive=True),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small.convert("P"), "PNG"),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small, "TIFF", compression="jpeg"),
    ]


def _decode_mutated(chance: random.Random, tally: Tally) -> None:
    done, good = Count(), good_images()
    batch = [mutated(chance.choice(good), chance) for _ in range(BATCH)]

    def decoding() -> int:
        for content in batch:
            decode_twice(content)
            done.up()
        return 0

    ended = run_child(decoding, timeout=4 * SECONDS, memory=4 * MEMORY)
    tally.faults += BATCH
    check_end(tally, ended, {0}, f"mutated image {done.value}")
    tally.check(ended.peak < MEMORY, "crashes", f"mutated images: {ended.peak / 1e6:.0f} MB of memory")


def _run_over(world: World, chance: random.Random, tally: Tally) -> None:
    folder, good = world.new_folder(), good_images()
    (folder / "images").mkdir()
    contents = [BOMBS[name]() for name in chance.sample(list(BOMBS), OF_A_RUN)]
    contents += [mutated(chance.choice(good), chance) for _ in range(OF_A_RUN)]
    names = [f"{index:06}.jpg" for index in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (folder / "images" / name).write_bytes(content)
    files = {kind: folder / getattr(world, kind).name for kind in ("labels", "partition", "landmarks")}
    files["labels"].write_text(f"image_id,{','.join(ATTRIBUTES)}\n" + "".join(f"{name},1,0,1\n" for name in names))
    files["partition"].write_text("".join(f"{name} 0\n" for name in names))
    files["landmarks"].write_text(landmark_csv(names))
    output = folder / "output"
    command = world.command(RUN, output, images=folder / "images", **files)
    ended = run_child(command, timeout=OF_A_RUN * SECONDS, memory=4 * MEMORY)
    tally.faults += len(contents)
    what = f"a run over {len(contents)} hostile images"
    if check_end(tally, ended, {0}, what):
        count_images(output, frozenset(names), tally, what)
    tally.check(ended.peak < 2 * MEMORY, "crashes", f"{what}: {ended.peak / 1e6:.0f} MB of memory")
