"""Pictures: what is opened, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt_infinity.data.pictures import Pictures


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..\\secret.png", "p\0.png"])
def test_a_path_never_leaves_its_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match="leaves its root"):
        Pictures({"s": tmp_path / "root"}, 100).read("s", name)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "root/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leaves its root"):
        Pictures({"s": tmp_path / "root"}, 100).read("s", "link.png")


def test_missing_unreadable_cut_short_and_too_large(tmp_path: Path) -> None:
    pictures = Pictures({"s": tmp_path}, max_pixels=100)
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:150])
    Image.new("RGB", (20, 20)).save(tmp_path / "large.png")
    for name, reason in [
        ("no.png", "missing"),
        ("text.png", "decoded"),
        ("cut.png", "decoded"),
        ("large.png", "20x20 pixels"),
    ]:
        with pytest.raises(ValueError, match=reason):
            pictures.check("s", name)
    with pytest.raises(ValueError, match="no picture root"):
        pictures.read("other", "whole.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    kind = "jpg" if mode in {"CMYK", "YCbCr"} else "png"
    Image.new(mode, (3, 2)).save(tmp_path / f"p.{kind}")
    picture = Pictures({"s": tmp_path}, 100).open("s", f"p.{kind}")
    assert (picture.mode, picture.size) == ("RGB", (3, 2))


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert Pictures({"s": tmp_path}, 100).open("s", "deep.png").getpixel((0, 0)) == (128, 128, 128)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert Pictures({"s": tmp_path}, 100).open("s", "turned.jpg").size == (2, 4)
