"""The README's promises: its snippet runs, its links lead somewhere, its commands exist."""

import re
from pathlib import Path

import pytest

from pipeline.cli import main, make_parser
from training import config, evaluate, export, predict

README = Path("README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_snippet_reads_a_shard_with_webdataset_and_numpy(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    assert main(["demo", f"--output={tmp_path / 'demo'}"]) == 0
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)  # noqa: S102
    assert names["image"].shape == (218, 178, 3)
    assert names["masks"].shape == (40, 96, 76)
    assert names["labels"].shape == (40,)
    assert names["masks"].any()


@pytest.mark.parametrize("page", sorted(Path("docs").glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_docs_lead_somewhere(page):
    for path in re.findall(r"\]\((?!https://)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


def test_links_and_files_exist():
    for path in re.findall(r"\]\((?!https://)([^)]+)\)", README) + re.findall(
        r"`((?:docs|docker|regions)/[\w./-]+)`", README
    ):
        assert Path(path).exists(), path


@pytest.mark.parametrize(
    "name", ["README.md", "docs/attribute_tables.md", "docs/landmarks.md", "docs/release.md", "docs/training.md"]
)
def test_options_exist(name):
    known = {"--runner", "--project", "--region", "--temp_location", "--sdk_container_image", "--dry_run"}  # Beam's
    known |= {"--direct_running_mode", "--direct_num_workers"}
    known |= {"--nproc_per_node", "--nnodes", "--rdzv_endpoint"}  # torchrun's
    for parser in (config.make_parser(), evaluate.make_parser(), predict.make_parser(), export.make_parser()):
        known |= set(parser._option_string_actions)
    for command in make_parser()._subparsers._group_actions[0].choices.values():
        known |= set(command._option_string_actions)
        for group in command._subparsers._group_actions if command._subparsers else ():
            for action in group.choices.values():
                known |= set(action._option_string_actions)
    for option in re.findall(r"(?<![\w-])--\w+", Path(name).read_text(encoding="utf-8")):
        assert option in known, option
