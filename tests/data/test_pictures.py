"""Pictures: which files are opened and how they become upright RGB, and which files are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt_infinity.data.pictures import Pictures, perceptual_hash


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..\\secret.png", "p\0.png"])
def test_a_path_outside_the_root_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match="leads outside its root folder"):
        Pictures({"s": tmp_path / "root"}, 100).read("s", name)


def test_a_link_to_a_file_outside_the_root_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "root/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leads outside its root folder"):
        Pictures({"s": tmp_path / "root"}, 100).read("s", "link.png")


def test_missing_broken_and_too_large_files_are_refused(tmp_path: Path) -> None:
    pictures = Pictures({"s": tmp_path}, max_pixels=100)
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "truncated.png").write_bytes((tmp_path / "whole.png").read_bytes()[:150])
    Image.new("RGB", (20, 20)).save(tmp_path / "large.png")
    for name, reason in [
        ("no.png", "missing"),
        ("text.png", "decoded"),
        ("truncated.png", "decoded"),
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


def test_a_16_bit_picture_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert Pictures({"s": tmp_path}, 100).open("s", "deep.png").getpixel((0, 0)) == (128, 128, 128)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert Pictures({"s": tmp_path}, 100).open("s", "turned.jpg").size == (2, 4)


def test_the_perceptual_hash_has_a_bit_for_each_rise_of_a_channel() -> None:
    """A red ramp from left to right rises in all 80 cells of its channel, and in no cell of the others."""
    ramp = np.zeros((80, 110, 3), dtype=np.uint8)
    ramp[:, :, 0] = np.arange(110) * 2
    bits = np.unpackbits(np.frombuffer(perceptual_hash(Image.fromarray(ramp)), np.uint8)).reshape(8, 10, 3)
    assert bits.sum(axis=(0, 1)).tolist() == [80, 0, 0]
