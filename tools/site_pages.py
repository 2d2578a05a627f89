"""A hook of mkdocs: README.md and other files from the root of the project become pages of the site."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md"} | {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
COPIES = ("LICENSE", "NOTICE", "CITATION.cff", "examples/read_shards.ipynb")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, their links adapted to their new place, and the files that they link to."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, target, content=text))
    for name in COPIES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files
