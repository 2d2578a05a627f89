"""The cost of training: samples per second of the loader beside bare decoding, images per second of a training step.

Without options the data is made by a run over the built-in sample, repeated. On a CPU the network is thin unless
--channels says otherwise; on a GPU it is the paper's, in several batch sizes, with and without channels_last, padded
channels and torch.compile, and compared with what the GPU reaches in a plain matrix product.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench import Bench
from benchmarks.images import load_photographs
from benchmarks.loaders import decoding_rate, loading_rate, many_times, rate_of_two
from training.batches import Batch
from training.config import CHANNELS, TrainConfig
from training.dataset_json import Dataset, read_dataset
from training.distributed import SINGLE_PROCESS
from training.loader import Loader, LoaderSettings
from training.loop import StopRequest, Training
from training.model import AttParseNet
from training.shard_reader import read_shard

SAMPLES = 16000
"""Minimum number read in one measurement; smaller splits are read repeatedly."""
IMAGES = 320
"""Number of images in the run over the built-in sample."""
ROUNDS = 5
THIN = (8, 16, 16, 16, 16)
WARM_UP = 3


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="OUT", help="local folder of a run (default: made from the built-in sample)")
    parser.add_argument("--channels", metavar="A,B,C,D,E", help="filters of the first five convolutions")
    parser.add_argument("--batch_sizes", metavar="N,N", help="(default: 64,128,256,512 on a GPU, 16 on a CPU)")
    parser.add_argument("--steps", type=int, default=20, help="training steps in one measurement (default: 20)")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or data_of_sample(Path(scratch))
        dataset = many_times(read_dataset(data), Path(scratch) / "repeated", SAMPLES)
        bench_loader(dataset)
        gpu = device.type == "cuda"
        channels = tuple(map(int, options.channels.split(","))) if options.channels else CHANNELS if gpu else THIN
        sizes = options.batch_sizes or ("64,128,256,512" if gpu else "16")
        config = TrainConfig(dataset.folder, "", channels=channels)
        bench_steps(dataset, device, config, [int(size) for size in sizes.split(",")], options.steps)


def data_of_sample(scratch: Path) -> str:
    """Run the pipeline over copies of the built-in sample; return the folder of the run."""
    return str(Bench(load_photographs(None, scratch), IMAGES, ROUNDS, scratch).finished_run)


def bench_loader(dataset: Dataset) -> None:
    """Print the rate of the loader, in this process and with two workers, beside that of bare decoding."""
    raw = [sample for shard in dataset.shards["train"] for sample in read_shard(shard)]
    pairs = [(sample["jpg"], sample["masks.png"]) for sample in raw[:SAMPLES]]
    settings = LoaderSettings("train", 64, training=True)
    batch = next(Loader(dataset, settings).batches(0))
    moved = sum(part.nbytes for part in (batch.images, batch.packed_masks, batch.labels) if part is not None)
    print(f"{len(raw)} samples; to the device: {moved / len(batch.keys):,.0f} bytes per sample")
    floors: dict[int, Callable[[], float]] = {0: lambda: decoding_rate(pairs), 2: lambda: rate_of_two(pairs)}
    for workers, floor in floors.items():
        loader = Loader(dataset, replace(settings, workers=workers))
        rounds = [(floor(), loading_rate(loader, epoch)) for epoch in range(ROUNDS)]
        bare, loaded = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        ratio = statistics.median(rate / bare for bare, rate in rounds)
        where = f"{workers} workers" if workers else "this process"
        print(f"loader, {where}: {loaded:,.0f} samples/s; bare decoding {bare:,.0f}; ratio {ratio:.0%}")


class Variant(NamedTuple):
    """A way to compute the same step."""

    channels_last: bool = True
    pad_channels: int | None = None
    compiled: bool = False


VARIANTS = {
    "as attparse-train does": Variant(),
    "without channels_last": Variant(channels_last=False),
    "without padding": Variant(pad_channels=1),
    "with compile": Variant(compiled=True),
}


def bench_steps(dataset: Dataset, device: torch.device, config: TrainConfig, sizes: list[int], steps: int) -> None:
    """Print the rate of a training step of stage 2, on a batch that is on the device, and with the loader."""
    flop, peak = flop_per_image(len(dataset.attributes), config.channels), matrix_product_rate(device)
    print(
        f"network {','.join(map(str, config.channels))}: {flop / 1e9:.1f} GFLOP per image and step (forward and"
        f" backward); matrix product on {device.type}: {peak / 1e12:.2f} TFLOP/s"
    )
    for size in sizes:
        for name, variant in VARIANTS.items() if device.type == "cuda" else [("as attparse-train does", Variant())]:
            options = replace(config, batch_size=size, pad_channels=variant.pad_channels, compile=variant.compiled)
            training = Training(options, dataset, SINGLE_PROCESS, device, StopRequest())
            if not variant.channels_last:
                training.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            print(f"batch {size}, {name}: {describe_step(training, steps, flop / peak)}")
    compare_with_loader(
        Training(replace(config, batch_size=sizes[0]), dataset, SINGLE_PROCESS, device, StopRequest()), steps
    )


def describe_step(training: Training, steps: int, seconds_of_peak: float) -> str:
    """Return images per second and peak memory of steps on one batch."""
    gpu = training.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    rate = stepping_rate(training, itertools.repeat(first_batch(training)), steps)
    memory = f"; peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if gpu else ""
    return f"{rate:,.1f} images/s, {rate * seconds_of_peak:.0%} of the matrix product's rate{memory}"


def compare_with_loader(training: Training, steps: int) -> None:
    """Print the rate of training with the loader as a share of that on a batch that is on the device."""
    shares = []
    for epoch in range(ROUNDS):
        on_device = stepping_rate(training, itertools.repeat(first_batch(training)), steps)
        shares.append(stepping_rate(training, training.loader.batches(epoch), steps) / on_device)
    workers = training.loader.settings.workers
    print(f"training with the loader ({workers} workers): {statistics.median(shares):.0%} of that")


def first_batch(training: Training) -> Batch:
    """Return a batch whose images and masks are on the device."""
    batch = next(training.loader.batches(0))
    assert batch.packed_masks is not None  # noqa: S101 # training has masks
    # Labels stay on the CPU, as in training, where unknown ones are looked for.
    images, packed_masks = batch.images.to(training.device), batch.packed_masks.to(training.device)
    return Batch(images, packed_masks, batch.labels, batch.keys)


def stepping_rate(training: Training, batches: Iterator[Batch], steps: int) -> float:
    """Return images per second of training steps, after some to warm up."""
    network: Any = training.wrapped_model().train()
    start = 0.0
    for step, batch in zip(range(WARM_UP + steps), batches, strict=False):
        if step == WARM_UP:
            synchronize(training.device)
            start = time.perf_counter()
        training.take_step(network, batch, 2, step)
        training.loader.release(batch)
    synchronize(training.device)
    return steps * training.config.batch_size / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flop_per_image(attributes: int, channels: tuple[int, ...]) -> float:
    """Return the floating-point operations of a network's forward and backward pass for one image."""
    model = AttParseNet(attributes, channels).to("meta")
    counter = FlopCounterMode(display=False)
    with counter:
        logits, maps = model(torch.empty((2, 3, 218, 178), device="meta"))
        (logits.sum() + maps.sum()).backward()
    return counter.get_total_flops() / 2


def matrix_product_rate(device: torch.device) -> float:
    """Return floating-point operations per second of a large product: bf16 on a GPU, float32 on a CPU."""
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (2048, torch.float32)
    left, right = (torch.randn((side, side), device=device).to(dtype) for _ in range(2))
    for times in (3, 10):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(times):
            left @ right
        synchronize(device)
        seconds = (time.perf_counter() - start) / times
    return 2 * side**3 / seconds


if __name__ == "__main__":
    main()
