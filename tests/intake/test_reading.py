"""Reading a source: bad records are rejected, no record is lost, and repairs are recorded."""

import gc
import hashlib
import io
import json
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adapt_infinity.data.pictures import CheckedPicture, Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.intake.reading import Source, check_records
from adapt_infinity.intake.records import Records
from adapt_infinity.intake.rejects import REJECT_SCHEMA, without_details
from adapt_infinity.intake.streaming_json import Unreadable
from tests.conftest import checked, intake, llava

PARAMS = intake(max_text=1000, max_reject_share=1.0)
GOOD = llava("good", ("Hello?", "Hi."))


def toy(*records: Any, **options: Any) -> Source:
    return Source("toy", "llava", records, {}, **options)


def test_all_records_of_a_good_source_arrive(toy_source: Source, pictures: Pictures) -> None:
    arrivals, rejects = checked(toy_source, pictures, round=3, first_id=40)
    assert arrivals["source_id"].tolist() == [record["id"] for record in toy_source.records]
    assert arrivals["sample_id"].tolist() == list(range(40, 48))
    assert arrivals["round"].unique().tolist() == [3]
    assert arrivals["repairs"].map(len).sum() == 0
    assert rejects.empty
    assert arrivals["content_hash"].is_unique


def test_both_streams_have_their_schema_even_when_empty(pictures: Pictures) -> None:
    arrivals, rejects = check_records(toy(GOOD), pictures, PARAMS)
    assert [table.schema for table in arrivals] == [SAMPLE_SCHEMA]
    assert [table.schema for table in rejects] == [REJECT_SCHEMA]


def test_rejects_cannot_be_read_before_the_arrivals(pictures: Pictures) -> None:
    _, rejects = check_records(toy(GOOD), pictures, PARAMS)
    with pytest.raises(AssertionError, match="arrivals must be read before rejects"):
        next(rejects)


# ---- rejects ---------------------------------------------------------------------------------------------------------

BOMB = "[" * 100_000


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (llava("a", ("Hello?", "")), "answer is empty"),
        (llava("a", ("Hello?", " \n")), "answer is empty"),
        (llava("a", ("", "Hi.")), "question is empty"),
        (llava("a", ("<image>What?", "Hi."), image="gone.png"), "missing"),
        (llava("a", ("<image>What?", "Hi."), image="../p0.png"), "leads outside its root folder"),
        (llava("a", ("<image>What?", "Hi."), image="/etc/passwd"), "leads outside its root folder"),
        (llava("a", ("<image>What?", "Hi."), image="a/../../p0.png"), "leads outside its root folder"),
        (llava("a", ("<image>What?", "Hi."), image="x" * 5000 + ".png"), "OSError"),
        (llava("a", ("<image>What?", "Hi."), image="http://127.0.0.1:9/p.png"), "is a URL; set pictures.allow_urls"),
        (llava("a", ("<image>What?", "Hi."), image="file:///etc/passwd"), "missing"),
        (llava("a", ("<image><image>What?", "Hi."), image="p0.png"), "2 image placeholders but 1 pictures"),
        (llava("a", ("<image>What?", "Hi."), image=["p0.png", "p1.png"]), "1 image placeholders but 2 pictures"),
        (llava("a", ("<image>What?", "Hi.")), "1 image placeholders but 0 pictures"),
        (llava("a", ("What?", "It is <image>."), image="p0.png"), "placeholder"),
        (llava("good", ("Again?", "Yes.")), "id was already used"),
        (llava("a", ("x" * 2000, "Hi.")), "2003 characters of text, intake.max_text is 1000"),
        (llava("a", ("x" * 10_000_000, "Hi.")), "10000003 characters"),
        (llava("a", ("Half a pair: \ud83d", "Hi.")), "valid Unicode"),
        (llava("a", ("Bytes that were none: \udcff", "Hi.")), "valid Unicode"),
        (llava("a\ud800", ("Hello?", "Hi.")), "valid Unicode"),
        (llava("a", ("Hello?", "Hi."), task="\udcff"), "valid Unicode"),
        ({"id": "a"}, "no conversations"),
        ({"id": "a", "conversations": []}, "no conversations"),
        ({"id": "a", "conversations": "talk"}, "no conversations"),
        ({"id": "a", "conversations": [{"from": "gpt", "value": "Hi."}]}, "alternate"),
        ({"id": "a", "conversations": [{"from": "human", "value": "Hello?"}]}, "alternate"),
        ({"id": "a", "conversations": [{"from": "system", "value": "Be kind."}]}, "alternate"),
        ({"id": "a", "conversations": [{"from": "human", "value": "Hello?"}] * 2}, "alternate"),
        ({"id": "a", "conversations": [{"from": "robot", "value": "Hello?"}]}, "robot"),
        ({"id": "a", "conversations": [{"from": "human", "value": float("nan")}]}, "no text"),
        ({"id": float("nan"), "conversations": []}, "neither text nor a whole number"),
        ({"id": True, "conversations": []}, "neither text nor a whole number"),
        (llava("a", ("<image>What?", "Hi."), image=[3]), "neither a path"),  # type: ignore[list-item]
        (llava("a", ("<image>What?", "Hi."), image=float("nan")), "neither a path"),  # type: ignore[arg-type]
        ("not a record", "not an object"),
        (None, "not an object"),
        (Unreadable("the line is not JSON", "{"), "the line is not JSON"),
    ],
)
def test_a_bad_record_is_rejected_with_its_reason_and_raw_text(record: Any, reason: str, pictures: Pictures) -> None:
    arrivals, rejects = checked(toy(GOOD, record), pictures, PARAMS)
    assert arrivals["source_id"].tolist() == ["good"]
    assert reason in rejects["reason"].item()
    assert rejects[["source", "position"]].values.tolist() == [["toy", 1]]
    raw = rejects["raw"].item()
    if isinstance(record, Unreadable):
        assert raw == record.raw
    elif not any(half in raw for half in ("\\udcff", "\\ud83d", "\\ud800")):
        assert json.dumps(json.loads(raw)) == json.dumps(record)


def test_a_file_of_many_kinds_of_bad_lines_raises_no_error(tmp_path: Path, pictures: Pictures) -> None:
    good = json.dumps(GOOD).encode()
    lines = [good, b'{"id": "x", "conversations": [{"from": "human", "value": "\xff"}]}', b"{", BOMB.encode(), b"NaN"]
    lines += [b'{"id": NaN}', b"9" * 5000, json.dumps(llava("long", ("word " * 2_000_000, "Hi."))).encode()]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    arrivals, rejects = checked(toy_of(tmp_path / "a.jsonl"), pictures, PARAMS)
    assert arrivals["source_id"].tolist() == ["good"]
    assert rejects["position"].tolist() == list(range(1, len(lines)))


def toy_of(path: Path) -> Source:
    records = Records(path)
    return Source(
        "toy", "llava", records, {}, repairs=("byte order mark skipped",) if records.has_byte_order_mark else ()
    )


def test_a_truncated_file_gives_its_beginning(tmp_path: Path, pictures: Pictures) -> None:
    whole = json.dumps([llava(str(number), ("Hello?", "Hi.")) for number in range(10)])
    (tmp_path / "a.json").write_text(whole[:-20])
    arrivals, rejects = checked(toy_of(tmp_path / "a.json"), pictures, PARAMS)
    assert len(arrivals) == 9
    assert "is truncated" in rejects["reason"].item()


def test_duplicate_ids_within_a_source_and_across_sources(pictures: Pictures) -> None:
    """Within a source an id names one sample; another source may use the same."""
    again = llava("good", ("Again?", "Yes."))
    arrivals, rejects = checked(toy(GOOD, again), pictures, PARAMS)
    assert (len(arrivals), len(rejects)) == (1, 1)
    new = llava("new", ("Hello?", "Hi."))
    arrivals, rejects = checked(toy(GOOD, new), pictures, PARAMS, known_ids={"good"})
    assert arrivals["source_id"].tolist() == ["new"]
    assert rejects["source_id"].tolist() == ["good"]
    other, none = checked(Source("other", "llava", [GOOD], {}), pictures, PARAMS)
    assert other["source_id"].tolist() == ["good"]
    assert none.empty


def test_the_id_of_a_rejected_record_can_be_used_again(pictures: Pictures) -> None:
    arrivals, rejects = checked(toy(llava("a", ("Hello?", "")), llava("a", ("Hello?", "Hi."))), pictures, PARAMS)
    assert (arrivals["source_id"].tolist(), rejects["position"].tolist()) == (["a"], [0])


# ---- pictures --------------------------------------------------------------------------------------------------------


def shown(image: Any) -> dict[str, Any]:
    return llava("shown", ("<image>What?", "Hi."), image=image)


def refused(folder: Path, image: Any, **options: Any) -> str:
    """The reason for which a record with this picture is rejected."""
    _, rejects = checked(toy(GOOD, shown(image)), Pictures({"toy": folder}, 10_000, **options), PARAMS)
    return str(rejects["reason"].item())


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def test_hostile_pictures_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "outside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    Image.new("1", (20_000, 20_000)).save(root / "bomb.png")
    Image.new("1", (200, 200)).save(root / "large.png")
    (root / "text.png").write_text("no picture")
    (root / "empty.png").write_bytes(b"")
    (root / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (root / "folder.png").mkdir()
    reasons = {
        "link.png": "leads outside its root folder",
        "loop.png": "picture",
        "bomb.png": "DecompressionBombError",
        "large.png": "200x200 pixels, the limit is 10000",
        "text.png": "cannot be decoded",
        "empty.png": "cannot be decoded",
        "drawing.png": "cannot be decoded",
        "folder.png": "is missing",
        "half\ud83d.png": "",
        "n\0ul.png": "leads outside its root folder",
    }
    for name, reason in reasons.items():
        assert reason in refused(root, name), name
    assert "there is no picture store" in refused(root, {"bytes": encoded(Image.new("RGB", (5, 5)))})


def test_conversions_of_pictures_are_recorded_as_repairs(tmp_path: Path) -> None:
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    made = {
        "turned.jpg": (encoded(turned, "JPEG", exif=exif), ["rotated upright by EXIF"]),
        "palette.png": (encoded(Image.new("P", (4, 2))), ["palette to RGB"]),
        "press.jpg": (encoded(Image.new("CMYK", (4, 2)), "JPEG"), ["CMYK to RGB"]),
        "deep.png": (encoded(Image.fromarray(np.full((2, 2), 30_000, np.uint16))), ["16 bits to RGB"]),
        "grey.png": (encoded(Image.new("L", (4, 2))), ["grey to RGB"]),
        "line.png": (encoded(Image.new("1", (4, 2))), ["black and white to RGB"]),
        "glass.png": (encoded(Image.new("RGBA", (4, 2))), ["transparency put on white"]),
        "greyglass.png": (encoded(Image.new("LA", (4, 2))), ["transparency put on white", "grey to RGB"]),
        "film.gif": (
            encoded(Image.new("L", (4, 2)), "GIF", save_all=True, append_images=[Image.new("L", (4, 2), 200)]),
            ["first of several frames used", "palette to RGB"],
        ),
        "plain.png": (encoded(Image.new("RGB", (4, 2))), []),
    }
    for name, (content, _) in made.items():
        (tmp_path / name).write_bytes(content)
    records = [llava(name, ("<image>What?", "Hi."), image=name) for name in made]
    arrivals, _ = checked(toy(*records), Pictures({"toy": tmp_path}, 100), PARAMS)
    found = {row["source_id"]: list(row["repairs"]) for row in arrivals.to_dict("records")}
    assert found == {name: repairs for name, (_, repairs) in made.items()}


def test_an_embedded_picture_is_stored_once_under_its_hash(tmp_path: Path) -> None:
    content = encoded(Image.new("RGB", (5, 5), "red"))
    name = "sha256:" + hashlib.sha256(content).hexdigest()
    pictures = Pictures({"toy": tmp_path}, 100, tmp_path / "store")
    records = [
        llava("a", ("<image>What?", "Hi."), image={"bytes": content, "path": None}),  # type: ignore[arg-type]
        llava("b", ("<image><image>What?", "Hi."), image=[content, {"bytes": content, "path": "x.png"}]),  # type: ignore[list-item]
    ]
    arrivals, _ = checked(toy(*records), pictures, PARAMS)
    assert [list(images) for images in arrivals["images"]] == [[name], [name, name]]
    assert [file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()] == [content]
    assert pictures.open("toy", name).getpixel((0, 0)) == (255, 0, 0)
    assert arrivals["picture_hashes"][0].tolist() == [name.removeprefix("sha256:")]
    for wrong in ("sha256:" + "0" * 64, "sha256:../../etc/passwd", "sha256:"):
        with pytest.raises(ValueError, match="store"):
            pictures.read("toy", wrong)


def test_rejects_hold_the_hash_of_bytes_instead_of_the_bytes(tmp_path: Path) -> None:
    _, rejects = checked(toy(GOOD, shown({"bytes": b"no picture", "path": None})), Pictures({}, 1, tmp_path), PARAMS)
    digest = hashlib.sha256(b"no picture").hexdigest()
    assert json.loads(rejects["raw"].item())["image"]["bytes"] == f"<10 bytes, sha256 {digest}>"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A local web server with a picture, a text file, a redirection and a truncated file."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/p.png").write_bytes(encoded(Image.new("RGB", (5, 5), "blue")))
    (tmp_path / "web/text.png").write_text("no picture")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/away.png":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
            elif self.path == "/cut.png":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"cut")
            else:
                super().do_GET()

    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


def test_urls_are_fetched_only_where_they_are_allowed(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is a URL; set pictures.allow_urls" in refused(tmp_path, f"{server}/p.png")
    allowed = Pictures({"toy": tmp_path}, 100, tmp_path / "store", allow_urls=True)
    arrivals, _ = checked(toy(shown(f"{server}/p.png")), allowed, PARAMS)
    (name,) = arrivals["images"].item()
    assert name.startswith("sha256:")
    assert allowed.open("toy", name).getpixel((0, 0)) == (0, 0, 255)
    options = {"store": tmp_path / "store", "allow_urls": True}
    assert "cannot be fetched: HTTP Error 404" in refused(tmp_path, f"{server}/gone.png", **options)
    assert "cannot be decoded" in refused(tmp_path, f"{server}/text.png", **options)
    assert "cannot be fetched" in refused(tmp_path, f"{server}/away.png", **options)
    assert "cannot be fetched" in refused(tmp_path, "http://[half", **options)
    assert "cannot be fetched" in refused(tmp_path, f"{server}/a b.png", **options)
    assert "cannot be decoded" in refused(tmp_path, f"{server}/cut.png", **options)
    assert "is missing" in refused(tmp_path, "file:///etc/passwd", **options)
    monkeypatch.setattr("adapt_infinity.data.pictures.FETCH_BYTES", 10)
    assert "is larger than 10 bytes" in refused(tmp_path, f"{server}/p.png", **options)


# ---- repairs ---------------------------------------------------------------------------------------------------------


U, A, S = "user", "assistant", "system"


@pytest.mark.parametrize(
    ("images", "said", "repaired", "repairs"),
    [
        (0, [(S, "Be kind. "), (U, "a?"), (A, "b")], [(U, "Be kind.\na?"), (A, "b")], ["system prompt"]),
        (
            0,
            [(U, "a?"), (A, "b"), (S, "Now"), (U, "c?"), (A, "d")],
            [(U, "a?"), (A, "b"), (U, "Now\nc?"), (A, "d")],
            ["sys"],
        ),
        (0, [(S, "x"), (S, "y"), (U, "a?"), (A, "b")], [(U, "x\ny\na?"), (A, "b")], ["system prompt"]),
        (0, [(A, "Hi."), (U, "a?"), (A, "b")], [(U, "a?"), (A, "b")], ["answer without a question removed"]),
        (0, [(U, "a?"), (A, "b"), (U, "c?")], [(U, "a?"), (A, "b")], ["question without an answer removed"]),
        (1, [(U, "a?"), (A, "b")], [(U, "<image>\na?"), (A, "b")], ["pictures put before the first question"]),
        (2, [(U, "a?"), (A, "b")], [(U, "<image>\n<image>\na?"), (A, "b")], ["pictures put before"]),
        (
            1,
            [(U, "<image>\na?"), (A, "b"), (U, "<image>\nc?"), (A, "d")],
            [(U, "<image>\na?"), (A, "b"), (U, "c?"), (A, "d")],
            ["repeated placeholder removed"],
        ),
        (
            1,
            [(S, "Look."), (A, "Hm."), (U, "a?"), (A, "b"), (U, "c?")],
            [(U, "<image>\nLook.\na?"), (A, "b")],
            ["system prompt", "answer without", "question without", "pictures put"],
        ),
    ],
)
def test_repairs_by_hand(
    images: int, said: list[tuple[str, str]], repaired: list[tuple[str, str]], repairs: list[str], pictures: Pictures
) -> None:
    speakers = {U: "human", A: "gpt", S: "system"}
    record = {
        "id": "a",
        "image": ["p0.png"] * images,
        "conversations": [{"from": speakers[role], "value": text} for role, text in said],
    }
    arrivals, rejects = checked(toy(record), pictures, PARAMS)
    assert rejects.empty
    assert [(turn["role"], turn["text"]) for turn in arrivals["turns"].item()] == repaired
    found = arrivals["repairs"].item()
    assert len(found) == len(repairs)
    assert all(one.startswith(beginning) for one, beginning in zip(found, repairs, strict=True))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (2, [(U, "<image>a?"), (A, "b"), (U, "c?"), (A, "d")]),  # it is unclear which of the two is meant
        (
            1,
            [(U, "<image>a?"), (A, "b"), (U, "c?"), (A, "d"), (U, "<image>e?"), (A, "f")],
        ),  # the second question has no placeholder
        (0, [(U, "a?"), (U, "b?"), (A, "c")]),
        (0, [(U, "a?"), (A, "b"), (A, "c")]),
        (0, [(U, "a?"), (A, "b"), (S, "c"), (A, "d")]),
        (0, [(A, "a"), (U, "b?")]),
    ],
)
def test_a_conversation_that_cannot_be_repaired_safely_is_rejected(
    images: int, said: list[tuple[str, str]], pictures: Pictures
) -> None:
    speakers = {U: "human", A: "gpt", S: "system"}
    turns = [{"from": speakers[role], "value": text} for role, text in said]
    record = {"id": "a", "image": ["p0.png"] * images, "conversations": turns}
    arrivals, rejects = checked(toy(GOOD, record), pictures, PARAMS)
    assert (len(arrivals), len(rejects)) == (1, 1)


def test_a_byte_order_mark_is_recorded_once(tmp_path: Path, pictures: Pictures) -> None:
    records = [llava("bad", ("Hello?", "")), GOOD, llava("b", ("Hello?", "Hi."))]
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(records).encode())
    arrivals, _ = checked(toy_of(tmp_path / "a.json"), pictures, PARAMS)
    assert [list(repairs) for repairs in arrivals["repairs"]] == [["byte order mark skipped"], []]


def test_records_without_an_id_are_named_by_their_position(pictures: Pictures) -> None:
    bare = {"conversations": GOOD["conversations"]}
    arrivals, _ = checked(toy(GOOD, bare, bare), pictures, PARAMS)
    assert arrivals["source_id"].tolist() == ["good", "1", "2"]


def test_repeated_ids_get_a_number_with_duplicate_ids_number(pictures: Pictures) -> None:
    records = [llava(name, (f"{number}?", "Hi.")) for number, name in enumerate(["7", "7#2", "7", "7", "8"])]
    arrivals, rejects = checked(toy(*records, duplicate_ids="number"), pictures, PARAMS, known_ids={"8"})
    assert arrivals["source_id"].tolist() == ["7", "7#2", "7#3", "7#4", "8#2"]
    assert [list(repairs) for repairs in arrivals["repairs"]] == [[], [], *[["number added to a repeated id"]] * 3]
    assert rejects.empty
    with pytest.raises(ValueError, match="duplicate_ids of toy is one of"):
        toy(GOOD, duplicate_ids="ignore")


# ---- too many rejects ------------------------------------------------------------------------------------------------


def test_a_source_without_usable_samples_is_an_error(pictures: Pictures) -> None:
    with pytest.raises(
        ValueError, match=r"'toy' yields no usable sample \(1 rejected; the reasons: an answer is empty \(1\)"
    ):
        checked(toy(llava("a", ("Hello?", ""))), pictures)
    with pytest.raises(ValueError, match=r"'toy' yields no usable sample \(0 rejected, because it has no records"):
        checked(toy(), pictures)


def test_too_large_a_share_of_rejects_is_an_error(pictures: Pictures) -> None:
    records = [GOOD, *(llava(str(number), ("Hello?", "")) for number in range(3))]
    checked(toy(*records), pictures, intake(max_reject_share=0.75))
    with pytest.raises(ValueError, match=r"3 of 4 records were rejected, more than intake.max_reject_share \(0.7\)"):
        checked(toy(*records), pictures, intake(max_reject_share=0.7))


def test_an_unreadable_rest_of_a_file_counts_by_its_share(pictures: Pictures) -> None:
    """One `Unreadable` may stand for most of a source."""
    records = [GOOD, *(llava(str(number), ("Hello?", "Hi.")) for number in range(8)), Unreadable("lost", "", 0.9)]
    checked(toy(*records), pictures, intake(max_reject_share=0.9))
    with pytest.raises(ValueError, match=r"1 of 10 records were rejected and 90% of a file could not be read"):
        checked(toy(*records), pictures, intake(max_reject_share=0.5))


def test_an_unexpected_number_of_samples_is_logged(pictures: Pictures, caplog: pytest.LogCaptureFixture) -> None:
    checked(toy(GOOD, expected=1), pictures)
    assert not caplog.records
    checked(toy(GOOD, expected=2), pictures)
    assert "source toy has 1 samples, but 2 are expected" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_text", 0), ("max_reject_share", 2.0), ("near_bits", 65), ("on_contamination", "cry"), ("workers", 0)],
)
@pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first
def test_parameters_name_key_and_value(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"intake.{name} must .* got '?{value}"):
        intake(**{name: value})


# ---- invariants ------------------------------------------------------------------------------------------------------


def test_every_record_arrives_or_is_rejected_once_across_blocks(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt_infinity.intake.reading.BLOCK", 7)
    monkeypatch.setattr("adapt_infinity.intake.reading.CACHED_PICTURES", 2)
    records = [
        llava(str(number), ("<image>Hello?", "Hi." if number % 3 else ""), image=f"p{number % 6}.png")
        for number in range(50)
    ]
    arrivals, rejects = checked(toy(*records), pictures, PARAMS, first_id=5)
    assert sorted([*map(int, arrivals["source_id"]), *rejects["position"]]) == list(range(50))
    assert arrivals["sample_id"].tolist() == list(range(5, 5 + len(arrivals)))
    assert arrivals["source_id"].astype(int).is_monotonic_increasing
    one_thread, _ = checked(toy(*records), pictures, intake(max_reject_share=1.0, workers=1), first_id=5)
    assert one_thread.equals(arrivals)


def test_equal_reasons_with_other_names_and_numbers_are_counted_together() -> None:
    assert without_details("picture 'a.png' has 20x30 pixels") == without_details('picture "b" has 1x2 pixels')


@pytest.mark.parametrize("count", [1200, pytest.param(4000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_records(pictures: Pictures, count: int) -> None:
    """More records, good and bad, take the same memory, except for their ids."""

    def peak(count: int) -> int:
        def records() -> Iterator[dict[str, Any]]:
            for number in range(count):
                yield llava(str(number), ("word " * 150, "Hi." if number % 4 else ""))

        arrivals, rejects = check_records(Source("toy", "llava", records(), {}), pictures, intake(max_reject_share=1.0))
        tracemalloc.start()
        try:
            arrived = sum(map(len, arrivals))
            left = sum(map(len, rejects))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert arrived + left == count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapt_infinity.intake.reading.BLOCK", 200)
        patch.setattr("adapt_infinity.intake.rejects.MAX_IN_MEMORY", 1 << 16)
        few, many = peak(600), peak(count)
    assert many < few + (count - 600) * 300, f"{few / 1e6:.1f} MB for 600 records, {many / 1e6:.1f} MB for {count}"


def test_the_first_block_comes_before_all_records_are_read(pictures: Pictures) -> None:
    taken = []

    def records() -> Iterator[dict[str, Any]]:
        for number in range(10_000):
            taken.append(number)
            yield llava(str(number), ("Hello?", "Hi."))

    arrivals, _ = check_records(Source("toy", "llava", records(), {}), pictures, PARAMS)
    assert not taken
    first = next(arrivals)
    assert isinstance(first, pa.Table)
    assert len(taken) < 5000


def test_garbage_collection_is_off_only_while_a_block_is_checked(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """It is on while the caller has a block, while a picture is decoded, and after an error."""
    monkeypatch.setattr("adapt_infinity.intake.reading.BLOCK", 1)
    reading, decoding = [], []

    class WatchedPictures(Pictures):
        def check(self, source: str, picture: str | bytes) -> CheckedPicture:
            decoding.append(gc.isenabled())
            return super().check(source, picture)

    def records() -> Iterator[dict[str, Any]]:
        for number in range(3):
            reading.append(gc.isenabled())
            yield llava(str(number), ("<image>Hello?", "Hi."), image=f"p{number}.png")
        raise OSError("the disk is gone")

    arrivals, _ = check_records(Source("toy", "llava", records(), {}), WatchedPictures({"toy": root}, 10_000), PARAMS)
    next(arrivals)
    assert gc.isenabled()
    gc.disable()
    try:
        next(arrivals)
        assert not gc.isenabled(), "a caller that had switched it off finds it off"
    finally:
        gc.enable()
    next(arrivals)
    with pytest.raises(OSError, match="the disk is gone"):
        next(arrivals)
    assert gc.isenabled()
    assert (reading, decoding) == ([False] * 3, [True] * 3)
