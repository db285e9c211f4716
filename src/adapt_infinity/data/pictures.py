"""Pictures, opened safely: a path that comes from data never leaves its source's root.

A sample's picture is a path below the root of its source, or `sha256:…`, the name of a picture that came inside a
record or from a URL and lies in the stream's own store under the hash of its bytes. Refused with a `ValueError` that
says why: absolute paths, `..`, links that lead outside, URLs unless they are allowed, missing and unreadable files,
kinds of file that are no pictures, pictures of more pixels than `max_pixels` (decompression bombs). What is returned is
upright RGB.
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

STORED = "sha256:"
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no EPS, PDF or others that run programs
URLS = ("http://", "https://")
FETCH_SECONDS = 20
FETCH_BYTES = 1 << 26
MARK_ROWS, MARK_COLUMNS = 8, 10  # a perceptual mark has a bit for each of them and each colour: 240
FLAT = 4  # levels by which a colour must rise to be more than noise


class Seen(NamedTuple):
    """What a picture turned out to be."""

    name: str  # under which it is opened from now on
    sha256: str  # hex, of the file's bytes
    mark: bytes  # perceptual: differs in few bits for pictures that look alike
    size: tuple[int, int]  # width and height, upright
    repairs: tuple[str, ...]  # what was done to make it upright RGB


@dataclass(frozen=True)
class Pictures:
    """Where pictures are: source name → root folder, and the store for those that have no file of their own."""

    roots: Mapping[str, Path]
    max_pixels: int
    store: Path | None = None
    allow_urls: bool = False

    def read(self, source: str, name: str) -> bytes:
        """The encoded picture; `ValueError` when `name` is none below the root of `source`, nor in the store."""
        if name.startswith(STORED):
            return self._stored(name).read_bytes()
        if name.startswith(URLS):
            raise ValueError(f"picture {name!r} is a URL; pictures.allow_urls in catalog.yml lets intake fetch it")
        if source not in self.roots:
            raise ValueError(f"no picture root is known for source {source!r}; known: {sorted(self.roots)}")
        return below(self.roots[source], name).read_bytes()

    def open(self, source: str, name: str) -> Image.Image:
        """The picture, upright and RGB; `ValueError` when it cannot be decoded."""
        return decode(self.read(source, name), name, self.max_pixels)[0]

    def check(self, source: str, picture: str | bytes) -> Seen:
        """Decode a picture that arrives, and put it into the store if it has no file of its own."""
        if isinstance(picture, str) and not (self.allow_urls and picture.startswith(URLS)):
            content, name = self.read(source, picture), picture
        else:
            content, name = (fetch(picture) if isinstance(picture, str) else picture), ""
        decoded, repairs = decode(content, name or "in the record", self.max_pixels)
        digest = hashlib.sha256(content).hexdigest()
        return Seen(name or self._keep(digest, content), digest, mark(decoded), decoded.size, repairs)

    def _keep(self, digest: str, content: bytes) -> str:
        if self.store is None:
            raise ValueError("a picture came inside a record, and there is no store to put it in")
        place = self.store / digest[:2] / digest
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_name(f".{digest}.{os.getpid()}.tmp")
            unfinished.write_bytes(content)
            os.replace(unfinished, place)
        return STORED + digest

    def _stored(self, name: str) -> Path:
        digest = name.removeprefix(STORED)
        if self.store is None or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ValueError(f"picture {name!r} is not in the store")
        place = self.store / digest[:2] / digest
        if not place.is_file():
            raise ValueError(f"picture {name!r} is missing from the store")
        return place


def below(root: Path, name: str) -> Path:
    """The file `name` below `root`; `ValueError` for a path that leaves it, by itself or through a link."""
    relative = PurePosixPath(name)
    if "\0" in name or "\\" in name or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"picture path {name!r} leaves its root")
    try:
        name.encode("utf-8")
        path, top = (root / relative).resolve(), root.resolve()
        if not path.is_relative_to(top):
            raise ValueError(f"picture path {name!r} leaves its root")
        if not path.is_file():
            raise ValueError(f"picture {name!r} is missing")
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # a name too long, a loop of links, half a character
        raise ValueError(f"picture path {name[:80]!r} is none: {type(error).__name__}") from error
    return path


def decode(content: bytes, name: str, max_pixels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """RGB picture from a file's bytes, and what was done to it: turned, converted from other kinds of colour."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size and EXIF warnings: the pixel limit below is ours
        try:
            with Image.open(io.BytesIO(content), formats=KINDS) as picture:
                width, height = picture.size
                if width * height <= max_pixels:
                    upright = ImageOps.exif_transpose(picture)
                    repairs = _repairs(picture)
                    return _rgb(upright), repairs
        except Exception as error:  # whatever a decoder throws at broken bytes, it is the bytes' fault
            raise ValueError(f"picture {name!r} cannot be decoded: {type(error).__name__}: {error}") from error
    raise ValueError(
        f"picture {name!r} has {width}x{height} pixels, the limit is {max_pixels} (max_pixels in catalog.yml)"
    )


def mark(picture: Image.Image) -> bytes:
    """240 bits that say where each colour gets stronger to the right: a difference hash (Krawetz 2013), of RGB."""
    small = picture.convert("RGB").resize((MARK_COLUMNS + 1, MARK_ROWS), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1] + FLAT).tobytes()


def suffix(content: bytes) -> str:
    """How the file of an encoded picture is to end."""
    with Image.open(io.BytesIO(content), formats=KINDS) as picture:
        kind = str(picture.format).lower()
    return "." + {"jpeg": "jpg", "tiff": "tif"}.get(kind, kind)


def fetch(url: str) -> bytes:
    """What lies at an http(s) URL, up to `FETCH_BYTES`."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            scheme, content = urlsplit(answer.url).scheme, bytes(answer.read(FETCH_BYTES + 1))
    except (OSError, HTTPException, ValueError) as error:  # unreachable, broken off, no address
        raise ValueError(f"picture {url!r} cannot be fetched: {error}") from error
    if scheme not in ("http", "https"):
        raise ValueError(f"picture {url!r} leads to another kind of address")
    if len(content) > FETCH_BYTES:
        raise ValueError(f"picture {url!r} is larger than {FETCH_BYTES} bytes")
    return content


def _repairs(picture: Image.Image) -> tuple[str, ...]:
    """What has to be done to make a picture upright RGB, in words."""
    done = []
    if picture.getexif().get(0x0112, 1) != 1:
        done.append("turned upright by its EXIF")
    if getattr(picture, "n_frames", 1) > 1:
        done.append("first of several frames")
    alpha = picture.getchannel("A").histogram() if "A" in picture.getbands() else []
    if "transparency" in picture.info or any(alpha[:-1]):
        done.append("transparency shown on white")
    if picture.mode.startswith(("I", "F")):
        done.append("16 bits to RGB")
    elif picture.mode not in ("RGB", "RGBA"):
        names = {"P": "palette", "PA": "palette", "L": "grey", "LA": "grey", "1": "black and white"}
        done.append(f"{names.get(picture.mode, picture.mode)} to RGB")
    return tuple(done)


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown on white and 16-bit grey scaled to 8."""
    if picture.mode.startswith(("I", "F")):
        deep = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray((deep / (256 if deep.max(initial=0) > 255 else 1)).clip(0, 255).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
