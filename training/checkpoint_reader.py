"""Read checkpoints that may be anybody's: tensors and plain values only, and each checked before it is used."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn

import torch

from regions.messages import counted, shown
from training.cli_common import DataError
from training.config import CHANNELS, MAX_CHANNELS
from training.model import AttParseNet
from training.storage import is_remote, open_read, read_bytes

CHECKPOINT_VERSION = 1
MAX_BYTES = 16 << 30
"""Largest checkpoint. The paper's network with its optimizer and its best weights takes 260 MB."""
MAX_PICKLE_BYTES = 8 << 20
"""Largest description of the values apart from tensors: the metrics of 20,000 epochs."""
MAX_NUMBER = 2**53
"""Largest number of a checkpoint: above it, a float is not exact."""

Weights = dict[str, torch.Tensor]


class Missing:
    """Marks an absent value."""


@dataclass(frozen=True)
class CheckpointReader:
    """Reads a checkpoint and checks its values; the first wrong one raises DataError.

    Attributes
    ----------
    path : str
        Path or URL of the checkpoint.
    """

    path: str

    def read(self) -> dict[str, Any]:
        """Return the values of the checkpoint, those that describe the network checked.

        Raises
        ------
        DataError
            If it cannot be read, is not a checkpoint, or has another format version.
        """
        if not is_remote(self.path):
            with open_read(self.path) as stream:
                self._check_archive(stream)
        content = read_bytes(self.path, MAX_BYTES)
        self._check_archive(io.BytesIO(content))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception:  # whatever the bytes of others make torch raise
            self.fail("contents", "what torch.load refuses", "whole tensors, numbers, texts, lists and dicts")
        if not isinstance(state, dict):
            self.fail("contents", describe(state), "a dict")
        version = state.get("version", Missing())
        if type(version) is not int or version != CHECKPOINT_VERSION:
            raise DataError(
                f"{self.path}: found version {describe(version)} of the checkpoint format,"
                f" expected {CHECKPOINT_VERSION}"
            )
        return self._network(dict(state), len(content))

    def _check_archive(self, stream: IO[bytes]) -> None:
        """Refuse what torch.load would unpack to more than the file has, or read as code."""
        expected = "a zip file as torch.save writes it"
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
            self.fail("file", "no zip file", expected)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from None
        names = [entry.filename.partition("/")[2] for entry in entries]
        if "constants.pkl" in names:
            self.fail("file", "a TorchScript file", "a checkpoint of weights")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            self.fail("file", "compressed entries", expected)
        size = stream.seek(0, io.SEEK_END)
        if sum(entry.file_size for entry in entries) > size:
            self.fail("file", f"entries of more than its {size:,} bytes", expected)
        if any(
            name == "data.pkl" and entry.file_size > MAX_PICKLE_BYTES
            for name, entry in zip(names, entries, strict=True)
        ):
            self.fail("data.pkl", "a larger file", f"at most {MAX_PICKLE_BYTES:,} bytes")

    def _network(self, state: dict[str, Any], size: int) -> dict[str, Any]:
        """Check the description of the network and its weights, of which a file of `size` bytes can hold no more."""
        names = self.value(state, "attributes", list)
        if not names or not all(type(name) is str and name for name in names) or len(set(names)) < len(names):
            self.fail("'attributes'", describe(names), "different names, at least one")
        channels = self.value(state, "channels", list)
        if len(channels) != len(CHANNELS):
            self.fail("'channels'", describe(channels), counted(len(CHANNELS), "number"))
        for index in range(len(channels)):
            self.whole_number(channels, index, 1, MAX_CHANNELS, f"'channels', number {index + 1}")
        batch_norm = self.value(state, "batch_norm", bool)
        with torch.device("meta"):
            expected = AttParseNet(len(names), tuple(channels), batch_norm).state_dict()
        weights = self.dictionary(state.get("model", Missing()), "'model'", expected)
        least = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
        if least > size:
            network = f"{counted(len(names), 'attribute')} and channels {channels}"
            self.fail("file", f"{size:,} bytes", f"at least {least:,} bytes for a network of {network}")
        return {**state, "model": self.weights(weights, expected, "'model'")}

    def weights(self, found: object, expected: Mapping[str, torch.Tensor], field: str) -> Weights:
        """Check tensors by name: shape and type are those of the expected ones, all values are finite."""
        weights = self.dictionary(found, field, expected)
        for name, tensor in expected.items():
            self.tensor(weights[name], tuple(tensor.shape), tensor.dtype, f"{field}, {name!r}")
            if name.endswith("running_var") and bool((weights[name] < 0).any()):
                self.fail(f"{field}, {name!r}", "negative variances", "at least 0")
        return weights

    def tensor(self, found: object, shape: tuple[int, ...], dtype: torch.dtype, field: str) -> torch.Tensor:
        """Check a tensor: shape and type as expected, all values finite."""
        expected = f"{_text(dtype)} {list(shape)}"
        if type(found) is not torch.Tensor or found.is_nested or found.layout != torch.strided or found.is_meta:
            self.fail(field, describe(found), expected)
        if found.shape != shape or found.dtype != dtype or found.is_quantized or found.is_conj() or found.is_neg():
            self.fail(field, describe(found), expected)
        if math.prod(shape) and not bool(torch.isfinite(found).all()):
            self.fail(field, "values that are not finite", "finite ones")
        return found

    def dictionary(self, found: object, field: str, names: Collection[str] = ()) -> dict[str, Any]:
        """Check a dict with text keys, or with just the keys `names`."""
        if type(found) not in (dict, OrderedDict):
            self.fail(field, describe(found), "a dict")
        values: dict[str, Any] = dict(found)  # type: ignore[call-overload] # without what an OrderedDict may carry
        if not all(type(name) is str for name in values):
            self.fail(field, "names that are not text", "text")
        if names and (missing := [name for name in names if name not in values]):
            self.fail(field, f"no {shown(missing[0])}", "all of its values")
        if names and (other := [name for name in values if name not in names]):
            self.fail(field, f"unknown {shown(other[0])}", "no other values")
        return values

    def value(self, values: Mapping[str, Any], name: str, kind: type, field: str = "") -> Any:
        """Check the type of a value, which has to be just `kind`."""
        found = values.get(name, Missing())
        if type(found) is not kind:
            self.fail(f"{field}{name!r}", describe(found), f"a {kind.__name__}")
        return found

    def whole_number(self, values: Any, name: str | int, least: int, most: int, field: str) -> int:
        """Check a whole number of a dict or list."""
        found = values[name]
        if type(found) is not int or not least <= found <= most:
            self.fail(field, describe(found), f"a whole number of {least} to {most:,}")
        return found

    def fail(self, field: str, found: str, expected: str) -> NoReturn:
        """Raise a DataError about a value."""
        raise DataError(f"{self.path}: not a checkpoint of attparse-train: {field}: found {found}, expected {expected}")


def describe(value: object) -> str:
    """Return what a value is, for a message, at once even if it is huge or deep."""
    if isinstance(value, Missing):
        return "nothing"
    if isinstance(value, torch.Tensor):
        return f"{_text(value.dtype)} {list(value.shape) if not value.is_nested else 'of different shapes'}"
    if type(value) is int and abs(value) > MAX_NUMBER:
        return f"a number of {value.bit_length():,} bits"
    if value is None or type(value) in (bool, int, float, str):
        return shown(value)
    if isinstance(value, list) and len(value) <= len(CHANNELS) and not any(isinstance(part, list) for part in value):
        return f"[{', '.join(map(describe, value))}]"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (list, dict)) else type(value).__name__


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
