"""The built-in sample: about two dozen varied images in CelebA's layout, made from one photograph.

The photograph is scikit-image's copy of NASA's portrait of the astronaut Eileen Collins (public
domain), which lies inside the scikit-image wheel.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from pipeline import storage
from pipeline.config import RunConfig, SourceDataset
from pipeline.errors import InputError
from regions.attributes import load_packaged_table

SOURCE = SourceDataset(
    name="attparse's built-in sample: variations of one portrait of the astronaut Eileen Collins",
    url="https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data.astronaut",
    license="Public domain: the portrait is by NASA.",
)
HEAD = (110, 0, 350, 270)
"""Head and shoulders in the photograph: x0, y0, x1, y1."""
PHOTOGRAPH_POINTS = ((203, 101), (247, 104), (222, 125), (205, 143), (243, 145))
"""Eye centers, nose tip and mouth corners in the photograph, marked by hand."""
FACE_BOX = (172, 62, 106, 122)
"""Face box in the photograph, marked by hand: x, y, width, height."""
SPACE = (380, 120, 512, 300)
"""A part of the photograph without any face."""

PRESENT = {
    "Arched_Eyebrows", "Bangs", "Blond_Hair", "Brown_Hair", "Heavy_Makeup", "High_Cheekbones", "Mouth_Slightly_Open",
    "No_Beard", "Oval_Face", "Rosy_Cheeks", "Smiling", "Straight_Hair", "Wearing_Lipstick", "Attractive", "Young",
}  # fmt: skip
"""Attributes of the portrait, in CelebA's terms."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DemoImage:
    """One image of the sample.

    Attributes
    ----------
    name : str
        File name.
    content : bytes
        The file.
    points : ndarray (5, 2) or None
        The five points, where the sample gives them.
    bbox : tuple of 4 numbers or None
        The face box, where the sample gives it.
    blurry : bool
        Whether the attribute Blurry is set.
    """

    name: str
    content: bytes
    points: Points | None = None
    bbox: tuple[float, ...] | None = None
    blurry: bool = False


def make_sample(folder: str, output: str) -> RunConfig:
    """Write the sample into a folder.

    Returns
    -------
    RunConfig
        Of a run over it that writes to `output`.

    Raises
    ------
    InputError
        If scikit-image is not installed, or the folder can't be written.
    """
    images = demo_images()
    image_folder = storage.join(folder, "images")
    storage.make_folder(image_folder)
    for image in images:
        storage.write_bytes(storage.join(image_folder, image.name), image.content)
    names = list(load_packaged_table("celeba").attributes)
    labels = [f"{p.name} {' '.join(_label(name, p) for name in names)}" for p in images]
    boxes = [f"{p.name} {' '.join(f'{v:.0f}' for v in p.bbox)}" for p in images if p.bbox]
    points = [f"{p.name} {' '.join(f'{v:.0f}' for v in p.points.ravel())}" for p in images if p.points is not None]
    splits = [f"{p.name} {(0, 0, 0, 0, 1, 2)[i % 6]}" for i, p in enumerate(images)]
    point_names = [
        f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    ]
    files = {
        "list_attr_celeba.txt": [str(len(labels)), " ".join(names), *labels],
        "list_bbox_celeba.txt": [str(len(boxes)), "image_id x_1 y_1 width height", *boxes],
        "list_landmarks_celeba.txt": [str(len(points)), " ".join(point_names), *points],
        "list_eval_partition.txt": splits,
    }
    for name, lines in files.items():
        storage.write_bytes(storage.join(folder, name), ("\n".join(lines) + "\n").encode())
    labels_file, boxes_file, points_file, partition_file = (storage.join(folder, name) for name in files)
    return RunConfig(
        images=image_folder,
        labels=labels_file,
        output=output,
        partition=partition_file,
        bboxes=boxes_file,
        points=points_file,
        samples_per_shard=8,
        min_coverage=0.8,
        source=SOURCE,
    )


def _label(name: str, image: DemoImage) -> str:
    return "1" if name in PRESENT or (name == "Blurry" and image.blurry) else "-1"


def demo_images() -> list[DemoImage]:
    """Return the images of the sample."""
    photograph = load_photograph()
    portrait = photograph.crop(HEAD)
    points = np.array(PHOTOGRAPH_POINTS, dtype=np.float64) - HEAD[:2]
    bbox = (FACE_BOX[0] - HEAD[0], FACE_BOX[1] - HEAD[1], *FACE_BOX[2:])
    jpeg = _jpeg(portrait)
    images = [
        DemoImage("portrait.jpg", jpeg, points, bbox),
        DemoImage("whole photograph.jpg", _jpeg(photograph)),
        DemoImage("mirrored.jpg", _jpeg(portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT))),
        DemoImage("dark.jpg", _jpeg(ImageEnhance.Brightness(portrait).enhance(0.25)), points, bbox),
        DemoImage("bright.jpg", _jpeg(ImageEnhance.Brightness(portrait).enhance(1.8))),
        DemoImage("low_contrast.jpg", _jpeg(ImageEnhance.Contrast(portrait).enhance(0.3))),
        DemoImage("gray.jpg", _jpeg(portrait.convert("L"))),
        DemoImage("blurred.jpg", _jpeg(portrait.filter(ImageFilter.GaussianBlur(4))), points, bbox, blurry=True),
        DemoImage("coarse.jpg", _jpeg(portrait, quality=8)),
        DemoImage("cmyk.jpg", _jpeg(portrait.convert("CMYK"))),
        DemoImage("rotated_by_camera.jpg", _jpeg(portrait.transpose(Image.Transpose.ROTATE_90), orientation=6)),
        DemoImage("really_a_png.jpg", _encoded(portrait.convert("RGBA"), "PNG")),
        DemoImage("webp.webp", _encoded(portrait, "WEBP")),
        DemoImage("large.JPG", _jpeg(portrait.resize((1200, 1350), Image.Resampling.LANCZOS))),
        *(_tilted(portrait, points, angle) for angle in (-30, -15, 15, 30)),
        _placed("small_in_large.jpg", photograph.resize((420, 420), Image.Resampling.LANCZOS), (570, 320)),
        _placed("tiny_in_large.jpg", photograph.resize((160, 160), Image.Resampling.LANCZOS), (90, 510)),
        DemoImage("half_out_left.jpg", _jpeg(portrait.crop((105, 0, 240, 270)))),
        DemoImage("half_out_top.jpg", _jpeg(portrait.crop((0, 92, 240, 270)))),
        DemoImage("hidden_eyes.jpg", _jpeg(_with_bar(portrait, points)), points, bbox),
        DemoImage("noise_with_points.jpg", _jpeg(_noise(portrait.size)), points),
        DemoImage("no_face.jpg", _jpeg(photograph.crop(SPACE))),
        DemoImage("corrupt.jpg", jpeg[: len(jpeg) // 3]),
    ]
    return images


def load_photograph() -> Image.Image:
    """Return the photograph, 512x512.

    Raises
    ------
    InputError
        If scikit-image is not installed.
    """
    try:
        from skimage import data  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError(
            "the built-in sample needs the extra demo: pip install -c constraints.txt -e '.[demo]'"
        ) from None
    return Image.fromarray(data.astronaut())


def _tilted(portrait: Image.Image, points: Points, angle: int) -> DemoImage:
    """Rotate the portrait by `angle` degrees counter-clockwise; one way with points, the other without."""
    middle = np.array(portrait.size) / 2
    rotated = portrait.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(150, 140, 130))
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    moved = (points - middle) @ np.array([[cos, -sin], [sin, cos]]) + middle
    return DemoImage(f"tilted_{angle:+d}.jpg", _jpeg(rotated), moved if angle > 0 else None)


def _placed(name: str, image: Image.Image, place: tuple[int, int]) -> DemoImage:
    """Place an image somewhere in a large gray one."""
    large = Image.new("RGB", (1024, 768), (120, 125, 120))
    large.paste(image, place)
    return DemoImage(name, _jpeg(large))


def _with_bar(portrait: Image.Image, points: Points) -> Image.Image:
    """Hide all of the face but the chin behind a gray bar."""
    pixels = np.array(portrait)
    pixels[int(points[0, 1]) - 60 : int(points[3, 1]) + 12] = 128
    return Image.fromarray(pixels)


def _noise(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def _jpeg(image: Image.Image, quality: int = 92, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    return _encoded(image, "JPEG", quality=quality, exif=exif)


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
