"""What Beam's ``--setup_file ./setup.py`` sends to workers: complete, nothing more, and usable there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest
from apache_beam.internal import pickler
from apache_beam.runners.portability.stager import Stager

from pipeline.building.graph import BuildShard, BuildShards
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import versions
from pipeline.records import DetectorSettings
from regions.attributes import load_packaged_table

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "regions", "training")
MADE_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package, built by Beam itself."""
    return Path(Stager._build_setup_package(str(ROOT / "setup.py"), str(tmp_path_factory.mktemp("sdist"))))


@pytest.fixture(scope="module")
def worker(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the package in it, and the libraries of this one."""
    folder = tmp_path_factory.mktemp("worker") / "environment"
    venv.create(folder, symlinks=True)
    variables = {"base": str(folder), "platbase": str(folder)}
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"  # before Python 3.11
    site, scripts = (Path(sysconfig.get_path(name, scheme, variables)) for name in ("purelib", "scripts"))
    install = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "install", "--quiet"]
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run([*install, "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", str(sdist)], cwd=folder)
    return scripts


def run(command: Sequence[str], cwd: Path) -> str:
    """Run a command elsewhere, without what leads Python to this folder; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of_package(name: str) -> set[str]:
    """Return all files of a package, as they are in the repository."""
    files = (file for file in (ROOT / name).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_sdist_holds_the_three_packages_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {member.name.partition("/")[2] for member in tar if member.isfile()}
    inside = {name for name in names if "/" in name and ".egg-info/" not in name}
    assert inside == set().union(*(files_of_package(name) for name in PACKAGES))
    assert {f"regions/{name}" for name in ("celeba.toml", "mean_shape.csv", "shape_model.npz")} <= inside
    assert {f"pipeline/detection/{name}_to_68.npz" for name in ("face_mesh", "landmarker")} <= inside
    on_top = {name for name in names if "/" not in name} - MADE_BY_SETUPTOOLS
    assert on_top <= {"MANIFEST.in", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"}
    assert sdist.stat().st_size < 1_300_000


def test_installed_package_works_elsewhere(worker: Path, tmp_path: Path) -> None:
    code = """
import pipeline.building.graph, regions.attributes, regions.landmarks, regions.masks, regions.quality, training
from pipeline.detection.landmark_map import load_mesh_map
load_mesh_map("face_mesh_to_68"), load_mesh_map("landmarker_to_68")
regions.landmarks.mean_shape(), regions.quality.shape_model(), regions.attributes.load_packaged_table("celeba")
print(*(package.__file__ for package in (pipeline, regions, training)), sep="\\n")
"""
    printed = run([str(worker / "python"), "-c", code], cwd=tmp_path).splitlines()
    assert len(printed) == len(PACKAGES)
    assert all(Path(line).is_relative_to(worker.parent) for line in printed)


def test_command_is_installed(worker: Path, tmp_path: Path) -> None:
    assert "usage: attparse" in run([str(worker / "attparse"), "--help"], cwd=tmp_path)


def test_graph_unpickles_on_a_worker(worker: Path, tmp_path: Path) -> None:
    table = load_packaged_table("celeba")
    settings = BuildSettings(
        images="gs://bucket/images",
        output="gs://bucket/out",
        table=table,
        crop="face",
        seed=0,
        skipped=0,
        annotations=DetectorSettings(),
        versions=versions(DetectorSettings()),
    )
    for number, step in enumerate((BuildShard(settings), BuildShards(settings, ["train-000000"]))):
        file = tmp_path / f"step{number}"
        file.write_bytes(pickler.dumps(step))
        code = f"""
import sys
from apache_beam.internal import pickler
step = pickler.loads(open({str(file)!r}, "rb").read())
print(type(step).__module__, type(step).__name__, step._settings.images, len(step._settings.table.attributes))
assert sys.modules["pipeline"].__file__.startswith(sys.prefix)
"""
        printed = run([str(worker / "python"), "-c", code], cwd=tmp_path).split()
        assert printed == ["pipeline.building.graph", type(step).__name__, settings.images, str(len(table.attributes))]
