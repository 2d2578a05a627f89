"""Checkpoints of others, changed or made to do harm: each is refused in one line that names the file."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_data import write_dataset
from training import checkpoint, checkpoint_reader, evaluate, export, predict, train
from training.checkpoint_reader import describe
from training.model import AttParseNet

State = dict[str, Any]
REFUSED = "not a checkpoint of attparse-train: "


def good_state() -> State:
    return checkpoint.describe_model(AttParseNet(2, (2, 2, 2, 2, 2)), ("Red", "Green"))


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def laughs() -> Any:
    """A list of 10**30 entries, each named once."""
    value: Any = ["ha"] * 10
    for _ in range(30):
        value = [value] * 10
    return value


CHANGES: dict[str, tuple[Callable[[State], object], str]] = {
    "no attributes": (lambda s: s.pop("attributes"), "'attributes': found nothing, expected a list"),
    "no names": (lambda s: s.update(attributes=[]), "'attributes': found [], expected different names"),
    "names that are numbers": (lambda s: s.update(attributes=[1, 2]), "'attributes': found [1, 2], expected"),
    "names that are tensors": (lambda s: s.update(attributes=[torch.ones(2)] * 2), "found [float32 [2], float32 [2]]"),
    "a name twice": (lambda s: s.update(attributes=["Red", "Red"]), "expected different names"),
    "a name too many": (lambda s: s["attributes"].append("Blue"), "bytes for a network of 3 attributes and"),
    "a text of names": (lambda s: s.update(attributes="Red"), "'attributes': found 'Red', expected a list"),
    "four channels": (lambda s: s["channels"].pop(), "'channels': found [2, 2, 2, 2], expected 5 numbers"),
    "a billion channels": (lambda s: s.update(channels=[10**9] * 5), "number 1: found 1000000000, expected a whole"),
    "as many as allowed": (lambda s: s.update(channels=[4096] * 5), "bytes, expected at least 2,419,066,968 bytes for"),
    "negative channels": (lambda s: s.update(channels=[-1] * 5), "number 1: found -1, expected a whole number of 1 to"),
    "channels of truth": (lambda s: s.update(channels=[True] * 5), "number 1: found True"),
    "channels of floats": (lambda s: s.update(channels=[2.0] * 5), "number 1: found 2.0"),
    "a number of many digits": (
        lambda s: s["channels"].__setitem__(3, 10**600),
        "number 4: found a number of 1,994 bits",
    ),
    "a deep channel": (lambda s: s["channels"].__setitem__(0, nested(99)), "number 1: found a list of 1"),
    "laughs": (lambda s: s["channels"].__setitem__(0, laughs()), "number 1: found a list of 10"),
    "batch_norm of 1": (lambda s: s.update(batch_norm=1), "'batch_norm': found 1, expected a bool"),
    "no batch norm": (lambda s: s.update(batch_norm=False), "'model': found no 'features.0.bias'"),
    "no weights": (lambda s: s.pop("model"), "'model': found nothing, expected a dict"),
    "a list of weights": (lambda s: s.update(model=[]), "'model': found [], expected a dict"),
    "a missing weight": (lambda s: s["model"].pop("classifier.bias"), "'model': found no 'classifier.bias'"),
    "an unknown weight": (
        lambda s: s["model"].update(x=torch.ones(1)),
        "'model': found unknown 'x', expected no other",
    ),
    "a weight without name": (lambda s: s["model"].update({1: 1}), "'model': found names that are not text"),
    "another shape": (
        lambda s: s["model"].update({"classifier.bias": torch.ones(3)}),
        "'model', 'classifier.bias': found float32 [3], expected float32 [2]",
    ),
    "another type": (
        lambda s: s["model"].update({"classifier.bias": torch.ones(2, dtype=torch.float16)}),
        "'model', 'classifier.bias': found float16 [2], expected float32 [2]",
    ),
    "a number for a weight": (lambda s: s["model"].update({"classifier.bias": 2}), "found 2, expected float32 [2]"),
    "a sparse weight": (
        lambda s: s["model"].update({"classifier.bias": torch.ones(2).to_sparse()}),
        "expected float32",
    ),
    "a weight without values": (
        lambda s: s["model"].update({"classifier.bias": torch.ones(2, device="meta")}),
        "expec",
    ),
    "NaN": (lambda s: s["model"]["classifier.bias"].fill_(float("nan")), "found values that are not finite"),
    "infinity": (lambda s: s["model"]["features.0.weight"].fill_(float("inf")), "found values that are not finite"),
    "a negative variance": (lambda s: s["model"]["features.1.running_var"].fill_(-1), "found negative variances"),
    "a giant of one byte": (
        lambda s: s["model"].update({"classifier.bias": torch.ones(1).expand(10**6, 10**6)}),
        "found float32 [1000000, 1000000], expected float32 [2]",
    ),
    "parameters": (
        lambda s: s["model"].update({"classifier.bias": torch.nn.Parameter(torch.ones(2))}),
        "expected float32 [2]",
    ),
}
VERSIONS: dict[str, tuple[Callable[[State], object], str]] = {
    "no version": (lambda s: s.pop("version"), "found version nothing of the checkpoint format, expected 1"),
    "a later version": (lambda s: s.update(version=2), "found version 2 of the checkpoint format, expected 1"),
    "a version that is true": (lambda s: s.update(version=True), "found version True of the"),
    "a deep version": (lambda s: s.update(version=nested(99)), "found version a list of 1 of the"),
    "a version of tensors": (lambda s: s.update(version=torch.ones(2)), "found version float32 [2] of the"),
}


def check_refused(path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [f"--checkpoint={path}", f"--output={path.parent / 'output'}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"attparse-export: {path}: ")
    assert what in line
    assert len(line) < 500
    assert "expected" in line


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    change, what = CHANGES[name]
    state = good_state()
    change(state)
    torch.save(state, tmp_path / "best.pt")
    check_refused(tmp_path / "best.pt", what, capsys)


@pytest.mark.parametrize("name", VERSIONS)
def test_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    change, what = VERSIONS[name]
    state = good_state()
    change(state)
    torch.save(state, tmp_path / "best.pt")
    check_refused(tmp_path / "best.pt", what, capsys)


def rewritten(content: bytes, compression: int, **members: bytes) -> bytes:
    """Return a zip file with the same members, some of them replaced."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.rpartition("/")[2].replace(".", "_"), old.read(name)))
    return target.getvalue()


def torchscript(_: bytes) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), target)
    return target.getvalue()


def legacy(_: bytes) -> bytes:
    target = io.BytesIO()
    torch.save(good_state(), target, _use_new_zipfile_serialization=False)
    return target.getvalue()


def overlapping(content: bytes) -> bytes:
    """Return a zip file whose directory names one large entry again and again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    at = start
    while struct.unpack_from("<I", content, at + 24)[0] != largest.file_size:
        at += 46 + sum(struct.unpack_from("<HHH", content, at + 28))
    entry = content[at : at + 46 + sum(struct.unpack_from("<HHH", content, at + 28))]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 9 * len(entry), start, 0)
    return content[:start] + entry * 9 + end


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an empty file": (lambda _: b"", "file: found no zip file, expected a zip file as torch.save writes it"),
    "text": (lambda _: b"weights", "file: found no zip file"),
    "half a file": (lambda good: good[: len(good) // 2], "file: found no zip file"),
    "a bare pickle": (lambda _: pickle.dumps({"version": 1}), "file: found no zip file"),
    "the format before zip": (legacy, "file: found no zip file"),
    "a TorchScript file": (torchscript, "file: found a TorchScript file, expected a checkpoint of weights"),
    "a zip file of something else": (lambda good: rewritten(good, 0)[:0] + b"PK\5\6" + b"\0" * 18, "contents: found"),
    "compressed": (lambda good: rewritten(good, zipfile.ZIP_DEFLATED), "file: found compressed entries"),
    "overlapping entries": (overlapping, "file: found entries of more than its "),
    "a pickle of 9 MB": (lambda good: rewritten(good, 0, data_pkl=b"]" * (9 << 20)), "data.pkl: found a larger file"),
    "a list": (lambda good: rewritten(good, 0, data_pkl=pickle.dumps([1], 2)), "contents: found [1], expected a dict"),
    "a damaged pickle": (lambda good: rewritten(good, 0, data_pkl=b"\x80\x02}X\xff\xff\xff\x7f."), "contents: found"),
    "deep lists": (
        lambda good: rewritten(good, 0, data_pkl=b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."),
        "contents: found a list of 1, expected a dict",
    ),
    "code": (lambda good: rewritten(good, 0, data_pkl=b"\x80\x02cos\nsystem\nX\1\0\0\0:\x85R."), "contents: found"),
    "a terabyte": (
        lambda good: rewritten(good, 0, data_pkl=b"\x80\x02c__builtin__\nbytearray\n\x8a\6\0\0\0\0\0\1\x85R."),
        "contents: found what torch.load refuses",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    make, what = FILES[name]
    good = io.BytesIO()
    torch.save(good_state(), good)
    (tmp_path / "best.pt").write_bytes(make(good.getvalue()))
    check_refused(tmp_path / "best.pt", REFUSED + what, capsys)


def test_a_file_larger_than_any_checkpoint_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "best.pt").open("wb") as stream:
        stream.truncate(1 << 40)
    check_refused(tmp_path / "best.pt", "file: found no zip file", capsys)
    monkeypatch.setattr(checkpoint_reader, "MAX_BYTES", 100)
    torch.save(good_state(), tmp_path / "large.pt")
    check_refused(tmp_path / "large.pt", "found more than 100 bytes, expected a smaller file", capsys)


def test_what_a_message_says_of_a_value_is_short() -> None:
    values = [nested(100_000), laughs(), "x" * 10**6, 10**5000, {"a": laughs()}, {1, 2}, None, torch.ones(0)]
    found = [describe(value) for value in values]
    assert max(map(len, found)) < 100
    assert found[3:] == ["a number of 16,610 bits", "a dict of 1", "set", "None", "float32 [0]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that has ended, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_dataset(folder / "data", {"train-000000": 2, "val-000000": 1})
    assert train.main(argv_of(Path(data), folder / "run")) == 0
    return folder


def argv_of(data: Path, output: Path) -> list[str]:
    options = ["--device=cpu", "--channels=2,2,2,2,2", "--workers=0", "--batch_size=2", "--stage1_epochs=0"]
    return [f"--data={data}", f"--output={output}", "--stage2_epochs=1", *options]


LAST: dict[str, tuple[Callable[[State], object], str]] = {
    "no position": (lambda s: s.pop("position"), "'position': found nothing, expected a dict"),
    "half a position": (lambda s: s["position"].pop("step"), "'position': found no 'step'"),
    "a fourth stage": (
        lambda s: s["position"].update(stage=4),
        "'position', 'stage': found 4, expected a whole number",
    ),
    "a negative step": (lambda s: s["position"].update(step=-1), "'position', 'step': found -1"),
    "a step after the last": (lambda s: s["position"].update(step=9), "found step 9, expected fewer in its epoch"),
    "an epoch too many": (
        lambda s: s["position"].update(epoch=2),
        "'history': found 1, expected one entry for each of 2",
    ),
    "no history": (lambda s: s.pop("history"), "'history': found nothing, expected a list"),
    "a text in the history": (lambda s: s["history"][0].update(val_bce="0"), "epoch 0, 'val_bce': found '0', expected"),
    "half a history": (lambda s: s["history"][0].pop("train_mse"), "epoch 0, 'train_mse': found nothing"),
    "a deep history": (lambda s: s.update(history=[nested(99)]), "epoch 0: found a list of 1, expected a dict"),
    "a third stage": (lambda s: s["history"][0].update(stage=3), "epoch 0, 'stage': found 3"),
    "no best": (lambda s: s.pop("best"), "'best': found nothing, expected a dict"),
    "best of nothing": (lambda s: s.update(best=None), "'best': found None, expected a dict"),
    "another best": (
        lambda s: s["best"].update({"classifier.bias": torch.ones(9)}),
        "'best', 'classifier.bias': found",
    ),
    "other sums": (lambda s: s.update(loss_sums=torch.ones(4)), "'loss_sums': found float32 [4], expected float64 [4]"),
    "counts of floats": (lambda s: s.update(confusion=torch.ones(4, 3)), "'confusion': found float32 [4, 3], expected"),
    "no optimizer": (lambda s: s.pop("optimizer"), "'optimizer': found nothing, expected the state of"),
    "less optimizer": (
        lambda s: s["optimizer"].pop(3),
        "'optimizer': found a dict of 19, expected the state of 18 or 20",
    ),
    "an optimizer of tensors": (
        lambda s: s.update(optimizer=dict(zip(torch.ones(20), range(20), strict=True))),
        "'optimizer': found a dict of 20",
    ),
    "another optimizer": (
        lambda s: s["optimizer"][0].update(exp_avg=torch.ones(2)),
        "'optimizer', parameter 0, 'exp_avg': found float32 [2], expected float32 [2, 3, 7, 7]",
    ),
    "no config": (lambda s: s.pop("config"), "'config': found nothing, expected a dict"),
    "a config of tensors": (lambda s: s["config"].update(lr=torch.ones(9)), "begun with another lr: float32 [9] then"),
    "a deep config": (lambda s: s["config"].update(channels=nested(99)), "another channels: a list of 1 then"),
    "a seed that is true": (lambda s: s["config"].update(seed=False), "begun with another seed: False then, 0 now"),
    "another data set's names": (
        lambda s: s.update(attributes=["a", "b", "c"]),
        "begun with another attributes: ['a', ",
    ),
    "another padding": (lambda s: s.update(padding=8), "found the weights of another network than its 'config' and"),
    "a padding of nothing": (lambda s: s.update(padding=0), "'padding': found 0, expected a whole number of 1 to 256"),
    "a machine of numbers": (lambda s: s.update(machine=3), "'machine': found 3, expected a str"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST)
def test_a_changed_checkpoint_is_not_resumed_from(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, what = LAST[name]
    output = tmp_path / "run"
    shutil.copytree(trained / "run", output)
    state = torch.load(output / "last.pt", weights_only=True)
    change(state)
    torch.save(state, output / "last.pt")
    before = (output / "last.pt").read_bytes()
    assert train.main(argv_of(trained / "data", output)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"attparse-train: {output}/last.pt: ")
    assert what in line
    assert (output / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_every_command_refuses_a_foreign_checkpoint(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.pt"
    torch.save(AttParseNet(2, (2, 2, 2, 2, 2)).state_dict(), path)
    found = f"{path}: found version nothing of the checkpoint format, expected 1\n"
    argv = [f"--checkpoint={path}", f"--output={tmp_path}"]
    assert export.main(argv) == 2
    assert predict.main([*argv, "--device=cpu", "face.jpg"]) == 2
    assert evaluate.main([*argv, "--device=cpu", f"--data={trained / 'data'}", "--split=val"]) == 2
    names = ("export", "predict", "evaluate")
    assert capsys.readouterr().err == "".join(f"attparse-{name}: {found}" for name in names)
