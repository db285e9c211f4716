"""An adapter on disk: a folder of another adapter type than plain LoRA says which type it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapt_infinity.model.lora import Adapter, adapter_digest, read_adapter, write_adapter


def test_an_adapter_type_is_stored_and_read(warm_adapter: Adapter, tmp_path: Path) -> None:
    typed = replace(warm_adapter, adapter_type={"kind": "moe_lora", "experts": 2}, extra_tensors={"r": torch.ones(2)})
    write_adapter(typed, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter/record.json").read_text())["adapter_type"] == typed.adapter_type
    read = read_adapter(tmp_path / "adapter")
    assert read.adapter_type == typed.adapter_type
    assert adapter_digest(read) == adapter_digest(typed) != adapter_digest(warm_adapter)


def test_a_folder_without_its_adapter_type_is_refused(warm_adapter: Adapter, tmp_path: Path) -> None:
    """Otherwise, only the LoRA part of the adapter would be used."""
    typed = replace(warm_adapter, adapter_type={"kind": "moe_lora", "experts": 2}, extra_tensors={"r": torch.ones(2)})
    write_adapter(typed, tmp_path / "adapter")
    record = tmp_path / "adapter/record.json"
    record.write_text(record.read_text().replace("adapter_type", "form"))
    with pytest.raises(ValueError, match=r"has no adapter_type .* train the adapter again"):
        read_adapter(tmp_path / "adapter")
