"""Samples per second of the trainer's loader, of bare decoding, and of other ways to read the same samples."""

from __future__ import annotations

import functools
import io
import multiprocessing
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.bench import Bench
from benchmarks.measure import announce
from benchmarks.table import Row, median_row
from training.dataset_json import MASK_SIZE, Dataset, read_dataset
from training.loader import Loader, LoaderSettings
from training.shard_reader import PNG_FRAME_BYTES, StoredSample, decode, packed_shape, read_shard

BATCH = 64
PAPER_SAMPLES = 100
"""Samples of the paper's layout, each of which is 41 files."""
IMAGE_SHAPE = (218, 178, 3)
Pair = tuple[bytes, bytes]


LOADER, LOADER_OF_TWO = "loader", "loader with 2 workers"
BARE, BARE_OF_TWO = "bare decoding", "bare decoding in 2 processes"


def loader_rows(bench: Bench) -> list[Row]:
    """Measure the trainer's loader against bare decoding and other ways to read the same samples."""
    found = rates(read_dataset(str(bench.finished_run)), bench.rounds)
    pairs = [(LOADER, name) for name in found if name not in (LOADER, LOADER_OF_TWO, BARE_OF_TWO)]
    rows = []
    for ours, other in [*pairs, (LOADER_OF_TWO, BARE_OF_TWO)]:
        what = f"samples per second of the {ours}, against {other}"
        rows.append(median_row(what, "1/s", zip(found[ours], found[other], strict=True)))
    return rows


def rates(dataset: Dataset, rounds: int = 5, samples: int = 2000) -> dict[str, list[float]]:
    """Measure all loaders in alternation; `litdata`, one of them, comes with the extra ``bench``.

    Parameters
    ----------
    dataset : Dataset
        Local; its training split is read once per measurement, repeatedly if it is small.
    rounds : int
    samples : int
        Minimum number read in one measurement, but for the layout of 41 files per sample.

    Returns
    -------
    dict of str to list of float
        Samples per second in each round, by name of the loader.
    """
    torch.set_num_threads(1)  # as in the workers of a DataLoader; on a busy machine several wait for each other
    with tempfile.TemporaryDirectory() as scratch:
        measures = loaders(many_times(dataset, Path(scratch) / "repeated", samples), Path(scratch))
        found: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(rounds):
            for name, measure in measures.items():
                found[name].append(measure())
    return found


def many_times(dataset: Dataset, folder: Path, samples: int) -> Dataset:
    """Return a dataset whose training split is that of another, under further names until it has enough samples."""
    shards = dataset.shards_of("train")
    folder.mkdir()
    copies = []
    for number in range(-(-samples // sum(shard.samples for shard in shards)) * len(shards)):
        shard = shards[number % len(shards)]
        path = folder / f"train-{number:06}.tar"
        path.symlink_to(Path(shard.url).resolve())
        copies.append(replace(shard, url=str(path)))
    return replace(dataset, shards={"train": tuple(copies)})


def loaders(dataset: Dataset, scratch: Path) -> dict[str, Callable[[], float]]:
    """Return a measurement for each way to read a dataset; what they need is written below a folder."""
    shards = dataset.shards["train"]
    samples = [sample for shard in shards for sample in read_shard(shard)]
    pairs = [(sample["jpg"], sample["masks.png"]) for sample in samples]
    settings = LoaderSettings("train", BATCH, training=True)
    paper = PaperLayout(samples, dataset.attributes, scratch / "paper")
    urls = [str(Path(shard.url).resolve()) for shard in shards]
    ways = {
        BARE: lambda: decoding_rate(pairs),
        BARE_OF_TWO: lambda: rate_of_two(pairs),
        LOADER: lambda: loading_rate(Loader(dataset, settings), 0),
        LOADER_OF_TWO: lambda: loading_rate(Loader(dataset, replace(settings, workers=2)), 0),
        "WebDataset with PIL": lambda: webdataset_rate(urls, len(dataset.attributes)),
        "image and 40 mask files": lambda: rate_of(DataLoader(paper, BATCH, shuffle=True)),
    }
    try:
        streamed = write_litdata(samples, scratch / "litdata")
    except (ImportError, RuntimeError) as error:  # as torchvision raises beside another torch than its own
        announce(f"left out: litdata ({error}); it needs the extra bench")
    else:
        ways["litdata with the same decoding"] = lambda: litdata_rate(streamed, dataset.attributes)
    return ways


def decoding_rate(pairs: list[Pair]) -> float:
    """Return samples per second of decoding images and masks, and nothing else, by the fastest known calls."""
    cv2.setNumThreads(0)
    image = np.empty(IMAGE_SHAPE, dtype=np.uint8)
    unfiltered = {png: is_unfiltered(png) for png in {png for _, png in pairs}}
    start = time.perf_counter()
    for jpeg, png in pairs:
        simplejpeg.decode_jpeg(jpeg, buffer=image)
        if unfiltered[png]:
            zlib.decompress(png[41:-16], bufsize=1 << 16)
        else:
            cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    return len(pairs) / (time.perf_counter() - start)


def is_unfiltered(png: bytes) -> bool:
    """Return whether a PNG of packed masks is one piece whose rows are stored as they are."""
    if png[33:37] != (len(png) - PNG_FRAME_BYTES).to_bytes(4, "big"):
        return False
    return not any(zlib.decompress(png[41:-16])[:: MASK_SIZE[1] + 1])


def rate_of_two(pairs: list[Pair]) -> float:
    """Return samples per second of two processes that decode at the same time."""
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(2), context.SimpleQueue()

    def work() -> None:
        barrier.wait()
        found.put(decoding_rate(pairs))

    processes = [context.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    total = sum(found.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def loading_rate(loader: Loader, epoch: int) -> float:
    """Return samples per second of an epoch of the loader, the start of its workers included."""
    start = time.perf_counter()
    count = 0
    for batch in loader.batches(epoch):
        count += len(batch.keys)
        loader.release(batch)
    return count / (time.perf_counter() - start)


def rate_of(batches: Iterable[Any]) -> float:
    """Return samples per second of batches whose first part is the images."""
    start = time.perf_counter()
    count = sum(len(batch[0]) for batch in batches)
    return count / (time.perf_counter() - start)


def webdataset_rate(urls: list[str], attributes: int) -> float:
    """Return the rate of a plain WebDataset pipeline: PIL decodes, the masks are unpacked."""

    def as_arrays(sample: tuple[Image.Image, Image.Image, dict[str, Any]]) -> tuple[Any, Any, Any]:
        image, png, description = sample
        packed = np.asarray(png).reshape(packed_shape(attributes))
        masks = np.unpackbits(packed, axis=0)[:attributes]
        labels = [-1 if value is None else value for value in description["labels"].values()]
        return np.asarray(image), masks, np.array(labels, dtype=np.int8)

    pipeline = wds.WebDataset(urls, shardshuffle=len(urls)).shuffle(1000).decode("pil", only=["jpg", "json"])
    images = pipeline.map(lambda sample: {**sample, "masks.png": Image.open(io.BytesIO(sample["masks.png"]))})
    return rate_of(images.to_tuple("jpg", "masks.png", "json").map(as_arrays).batched(BATCH))


def write_litdata(samples: list[StoredSample], folder: Path) -> str:
    """Write undecoded samples as chunks of litdata; return their folder."""
    import litdata  # noqa: PLC0415 - of the extra "bench"

    inputs = [{"jpg": s["jpg"], "png": s["masks.png"], "json": s["json"]} for s in samples]
    litdata.optimize(
        fn=_itself, inputs=inputs, output_dir=str(folder), chunk_bytes="16MB", num_workers=1, verbose=False
    )
    return str(folder)


def _itself(sample: dict[str, bytes]) -> dict[str, bytes]:
    return sample


def litdata_rate(folder: str, attributes: tuple[str, ...]) -> float:
    """Return the rate of litdata's StreamingDataset where each sample is decoded as attparse does."""
    import litdata  # noqa: PLC0415 - as above

    rows = functools.partial(_decoded, attributes=attributes)
    dataset = litdata.StreamingDataset(folder, shuffle=True, transform=rows)
    return rate_of(litdata.StreamingDataLoader(dataset, batch_size=BATCH))


def _decoded(sample: dict[str, bytes], *_: object, attributes: tuple[str, ...]) -> tuple[Any, Any, Any]:
    image = np.empty(IMAGE_SHAPE, dtype=np.uint8)
    packed = np.empty(packed_shape(len(attributes)), dtype=np.uint8)
    members = {"__key__": "", "__url__": "", "jpg": sample["jpg"], "masks.png": sample["png"], "json": sample["json"]}
    return image, packed, np.array(decode(members, attributes, image, packed), dtype=np.int8)


class PaperLayout(TorchDataset[tuple[Any, Any]]):
    """Samples as files: an image, and for each attribute a mask of the image's size as a JPEG file."""

    def __init__(self, samples: list[StoredSample], attributes: tuple[str, ...], folder: Path) -> None:
        self._folders = [folder / str(number) for number in range(min(PAPER_SAMPLES, len(samples)))]
        self._attributes = attributes
        height, width, _ = IMAGE_SHAPE
        for sample, place in zip(samples, self._folders, strict=False):
            place.mkdir(parents=True)
            (place / "image.jpg").write_bytes(sample["jpg"])
            png = np.asarray(Image.open(io.BytesIO(sample["masks.png"])))
            masks = np.unpackbits(png.reshape(packed_shape(len(attributes))), axis=0)[: len(attributes)]
            for name, mask in zip(attributes, masks, strict=True):
                Image.fromarray(mask * 255).resize((width, height)).save(place / f"{name}.jpg")

    def __len__(self) -> int:
        return len(self._folders)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        place = self._folders[index]
        names = (f"{name}.jpg" for name in self._attributes)
        masks = [np.asarray(Image.open(place / name).resize(MASK_SIZE[::-1])) > 127 for name in names]
        return np.asarray(Image.open(place / "image.jpg")), np.stack(masks)
