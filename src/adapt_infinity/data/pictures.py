"""Pictures, opened safely: a path that comes from data never leads outside its source's root folder.

A sample names a picture by a path below the root folder of its source, or by `sha256:…`. The latter is a picture that
was embedded in a record or fetched from a URL; it lies in the stream's own picture store, under the hash of its bytes.

A picture is refused with a `ValueError` that gives the reason: absolute paths, `..`, links that lead outside, URLs
unless they are allowed, missing or unreadable files, file formats that are not pictures, and pictures of more than
`max_pixels` pixels (decompression bombs). Every picture is returned upright and in RGB.
"""

import hashlib
import io
import os
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps

STORED = "sha256:"  # prefix of the name of a picture in the store
FILE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # not EPS, PDF or others that run programs
URLS = ("http://", "https://")
FETCH_SECONDS = 20
FETCH_BYTES = 1 << 26
HASH_ROWS, HASH_COLUMNS = 8, 10  # the perceptual hash has one bit per cell of this grid and colour channel: 240 bits
MIN_RISE = 4  # levels (of 256) by which a channel must rise from one cell to the next; less is taken for noise


class CheckedPicture(NamedTuple):
    """A picture that could be decoded."""

    name: str  # the path or `sha256:…` by which it is opened from now on
    sha256: str  # hash of the file's bytes, in hexadecimal
    perceptual_hash: bytes  # 240 bits; pictures that look alike differ in few of them
    size: tuple[int, int]  # width and height in pixels, upright
    repairs: tuple[str, ...]  # the conversions that make it upright RGB, in words


@dataclass(frozen=True)
class Pictures:
    """Where pictures lie: the root folder of each source, and the store for pictures without a file of their own."""

    roots: Mapping[str, Path]  # source name → root folder
    max_pixels: int  # larger pictures are refused
    store: Path | None = None
    allow_urls: bool = False  # whether `check` fetches pictures from the web

    def read(self, source: str, name: str) -> bytes:
        """The bytes of the picture `name`; `ValueError` when it is neither below the source's root nor in the store."""
        if name.startswith(STORED):
            return self._stored_path(name).read_bytes()
        if name.startswith(URLS):
            raise ValueError(
                f"picture {name!r} is a URL; set pictures.allow_urls in catalog.yml to let intake fetch it"
            )
        if source not in self.roots:
            raise ValueError(
                f"source {source!r} has no picture root folder; sources that have one: {sorted(self.roots)}"
            )
        return path_below(self.roots[source], name).read_bytes()

    def open(self, source: str, name: str) -> Image.Image:
        """The picture, upright and in RGB; `ValueError` when it cannot be read or decoded."""
        return decode(self.read(source, name), name, self.max_pixels)[0]

    def check(self, source: str, picture: str | bytes) -> CheckedPicture:
        """Decode an arriving picture, given by its path, its URL or its bytes; `ValueError` when that is impossible.

        Pictures given as bytes or by a URL have no file of their own and are put into the store.
        """
        if isinstance(picture, str) and not (self.allow_urls and picture.startswith(URLS)):
            content, name = self.read(source, picture), picture
        else:
            content, name = (fetch(picture) if isinstance(picture, str) else picture), ""
        decoded, repairs = decode(content, name or "embedded in the record", self.max_pixels)
        digest = hashlib.sha256(content).hexdigest()
        name = name or self._put_into_store(digest, content)
        return CheckedPicture(name, digest, perceptual_hash(decoded), decoded.size, repairs)

    def _put_into_store(self, digest: str, content: bytes) -> str:
        if self.store is None:
            raise ValueError(
                "a picture is embedded in its record, but there is no picture store (pictures.store in catalog.yml)"
            )
        path = self.store / digest[:2] / digest
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{digest}.{os.getpid()}.tmp")
            unfinished.write_bytes(content)
            os.replace(unfinished, path)
        return STORED + digest

    def _stored_path(self, name: str) -> Path:
        digest = name.removeprefix(STORED)
        if self.store is None or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ValueError(f"picture {name!r} is not in the store")
        path = self.store / digest[:2] / digest
        if not path.is_file():
            raise ValueError(f"picture {name!r} is missing from the store")
        return path


def path_below(root: Path, name: str) -> Path:
    """The path of the file `name` below `root`.

    `ValueError` when the path leads outside `root` (by itself or through a link), is malformed, or is not a file.
    """
    relative = PurePosixPath(name)
    if "\0" in name or "\\" in name or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"picture path {name!r} leads outside its root folder")
    try:
        name.encode("utf-8")
        path = (root / relative).resolve()
        if not path.is_relative_to(root.resolve()):
            raise ValueError(f"picture path {name!r} leads outside its root folder")
        if not path.is_file():
            raise ValueError(f"picture {name!r} is missing")
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # too long; a loop of links; half of a surrogate pair
        raise ValueError(f"picture path {name[:80]!r} is malformed: {type(error).__name__}") from error
    return path


def decode(content: bytes, name: str, max_pixels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The upright RGB picture in a file's bytes, and the conversions that were needed, in words.

    `ValueError` when the bytes cannot be decoded or the picture has more than `max_pixels` pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about size and EXIF; our own pixel limit follows
        try:
            with Image.open(io.BytesIO(content), formats=FILE_FORMATS) as picture:
                width, height = picture.size
                if width * height <= max_pixels:
                    upright = ImageOps.exif_transpose(picture)
                    repairs = _repairs(picture)
                    return _rgb(upright), repairs
        except Exception as error:  # decoders raise many types of error for broken bytes
            raise ValueError(f"picture {name!r} cannot be decoded: {type(error).__name__}: {error}") from error
    raise ValueError(
        f"picture {name!r} has {width}x{height} pixels, the limit is {max_pixels} (max_pixels in catalog.yml)"
    )


def perceptual_hash(picture: Image.Image) -> bytes:
    """Difference hash (Krawetz 2013, hackerfactor.com/blog, "Kind of Like That") of the three colour channels.

    The picture is scaled to 8 rows and 11 columns. A bit is set where a channel rises by more than `MIN_RISE` levels
    from a cell to its right neighbour: 8 x 10 x 3 = 240 bits, in 30 bytes.
    """
    small = picture.convert("RGB").resize((HASH_COLUMNS + 1, HASH_ROWS), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1] + MIN_RISE).tobytes()


def file_extension(content: bytes) -> str:
    """The file extension (such as ".jpg") that fits the bytes of an encoded picture."""
    with Image.open(io.BytesIO(content), formats=FILE_FORMATS) as picture:
        format = str(picture.format).lower()
    return "." + {"jpeg": "jpg", "tiff": "tif"}.get(format, format)


def fetch(url: str) -> bytes:
    """The bytes at an http(s) URL; `ValueError` when they cannot be fetched or are more than `FETCH_BYTES`."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as response:
            scheme, content = urlsplit(response.url).scheme, bytes(response.read(FETCH_BYTES + 1))
    except (OSError, HTTPException, ValueError) as error:  # unreachable, interrupted, or not a valid URL
        raise ValueError(f"picture {url!r} cannot be fetched: {error}") from error
    if scheme not in ("http", "https"):
        raise ValueError(f"picture {url!r} redirects to an address that is not http or https")
    if len(content) > FETCH_BYTES:
        raise ValueError(f"picture {url!r} is larger than {FETCH_BYTES} bytes")
    return content


def _repairs(picture: Image.Image) -> tuple[str, ...]:
    """The conversions that make a picture upright RGB, in words."""
    repairs = []
    if picture.getexif().get(0x0112, 1) != 1:
        repairs.append("rotated upright by EXIF")
    if getattr(picture, "n_frames", 1) > 1:
        repairs.append("first of several frames used")
    alpha = picture.getchannel("A").histogram() if "A" in picture.getbands() else []
    if "transparency" in picture.info or any(alpha[:-1]):
        repairs.append("transparency put on white")
    if picture.mode.startswith(("I", "F")):
        repairs.append("16 bits to RGB")
    elif picture.mode not in ("RGB", "RGBA"):
        names = {"P": "palette", "PA": "palette", "L": "grey", "LA": "grey", "1": "black and white"}
        repairs.append(f"{names.get(picture.mode, picture.mode)} to RGB")
    return tuple(repairs)


def _rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB: transparent pixels on a white background, 16-bit grey scaled to 8 bits."""
    if picture.mode.startswith(("I", "F")):
        deep = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray((deep / (256 if deep.max(initial=0) > 255 else 1)).clip(0, 255).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
