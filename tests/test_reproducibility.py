"""Intel processors are asked for products that do not depend on the number of rows; nobody else's choice is touched."""

from pathlib import Path

import pytest

from adapt_infinity.reproducibility import STRICT, VARIABLE, ask_for_strict_products, is_intel

CPUINFO = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: 6\n"


@pytest.mark.parametrize(
    ("vendor", "before", "after"),
    [
        ("GenuineIntel", {}, {VARIABLE: STRICT}),
        ("GenuineIntel", {VARIABLE: "AVX2"}, {VARIABLE: "AVX2"}),
        ("GenuineIntel", {VARIABLE: ""}, {VARIABLE: ""}),
        ("AuthenticAMD", {}, {}),
    ],
)
def test_intel_is_asked_unless_the_user_has_chosen(
    tmp_path: Path, vendor: str, before: dict[str, str], after: dict[str, str]
) -> None:
    cpuinfo, environment = tmp_path / "cpuinfo", dict(before)
    cpuinfo.write_text(CPUINFO.format(vendor))
    ask_for_strict_products(environment, cpuinfo)
    assert environment == after


def test_a_processor_without_a_vendor_is_not_intels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 100\n")
    assert not is_intel(tmp_path / "cpuinfo")
    for name, expected in (("Intel64 Family 6 Model 143, GenuineIntel", True), ("arm", False)):
        monkeypatch.setattr("platform.processor", lambda name=name: name)
        assert is_intel(tmp_path / "absent") == expected
