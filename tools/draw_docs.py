"""Draw the pictures of README.md and docs/ from the built-in sample, which is public domain."""

import tempfile
from pathlib import Path

from PIL import Image

from pipeline.cli import main as attparse
from pipeline.preview import write_preview

NUM_FACES = 12
WIDTH = 1200


def main() -> None:
    """Write docs/regions.jpg."""
    target = Path(__file__).parent.parent / "docs" / "regions.jpg"
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "regions.png"
        attparse(["demo", f"--output={folder}/run"])
        write_preview(f"{folder}/run", str(large), NUM_FACES)
        with Image.open(large) as sheet:
            size = WIDTH, round(sheet.height * WIDTH / sheet.width)
            sheet.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, quality=88)


if __name__ == "__main__":
    main()
