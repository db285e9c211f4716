"""Pictures on disk, opened safely: a path that comes from data never leaves its source's root.

Refused with a `ValueError` that says why: absolute paths, `..`, links that lead outside, missing and unreadable files,
pictures of more pixels than `max_pixels` (decompression bombs). What is returned is upright RGB.
"""

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps, UnidentifiedImageError


@dataclass(frozen=True)
class Pictures:
    """Where each source keeps its pictures: source name → root folder."""

    roots: Mapping[str, Path]
    max_pixels: int

    def read(self, source: str, name: str) -> bytes:
        """The file's bytes; `ValueError` when it is not a file below the root of `source`."""
        if source not in self.roots:
            raise ValueError(f"no picture root is known for source {source!r}; known: {sorted(self.roots)}")
        root = self.roots[source].resolve()
        relative = PurePosixPath(name)
        if "\0" in name or relative.is_absolute() or ".." in relative.parts or "\\" in name:
            raise ValueError(f"picture path {name!r} leaves its root")
        path = (root / relative).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"picture path {name!r} leaves its root")
        if not path.is_file():
            raise ValueError(f"picture {name!r} is missing")
        return path.read_bytes()

    def open(self, source: str, name: str) -> Image.Image:
        """The picture, upright and RGB; `ValueError` when it cannot be decoded."""
        return decode(self.read(source, name), name, self.max_pixels)

    def check(self, source: str, name: str) -> str:
        """SHA-256 (hex) of the file's bytes, once it has been seen to decode."""
        content = self.read(source, name)
        decode(content, name, self.max_pixels)
        return hashlib.sha256(content).hexdigest()


def decode(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """RGB picture from a file's bytes: EXIF rotation applied; palette, grey, 16-bit, CMYK and alpha converted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size and EXIF warnings: the pixel limit below is ours
        try:
            with Image.open(io.BytesIO(content)) as picture:
                if picture.width * picture.height > max_pixels:
                    raise ValueError(
                        f"picture {name!r} has {picture.width}x{picture.height} pixels, limit {max_pixels}"
                    )
                return _rgb(ImageOps.exif_transpose(picture))
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"picture {name!r} cannot be decoded: {error}") from error


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown on white and 16-bit grey scaled to 8."""
    if picture.mode.startswith("I;16"):
        picture = picture.point(lambda value: value / 256).convert("L")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
