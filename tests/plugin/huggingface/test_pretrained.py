"""`from_pretrained` before launch: a model of a configuration without weights, and weights in 4 bits without their package."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import LlamaConfig, LlamaForCausalLM

from builders.huggingface import SIZES, quiet
from builders.scripts import load_script
from builders.versions import is_before, needs_version
from trainfare import trace_job
from trainfare.fake_step.real_tensors import _resident_bytes
from trainfare_core.errors import TargetError

SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import torch
from builders.huggingface import Texts, make_trainer
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaForCausalLM
model = {{model}}
trainer = make_trainer("out", model, max_steps=4, train_dataset=Texts(32, tokens_as_labels=True), {{options}})
trainer.train()
"""
HIDDEN, INNER, LAYERS, RANK = 32, 64, 2, 4
LINEAR = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INNER)
"""Weights of the linear layers in the blocks."""
OTHERS = 2 * SIZES["vocab_size"] * HIDDEN + (2 * LAYERS + 1) * HIDDEN
"""Of the embedding, the head and the norms."""

pytestmark = quiet


_BEFORE_5 = needs_version("transformers", "5.0", "a configuration of 4 bits asks for bitsandbytes itself")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def make_config(**changes: object) -> LlamaConfig:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "architectures": ["LlamaForCausalLM"]}
    return LlamaConfig(**{**SIZES, **sizes, **changes})


def count_parameters(model: str, options: str = "") -> dict[tuple[str, bool], int]:
    profile = trace_job(load_script(SCRIPT.format(model=model, options=options)))
    assert profile.source.how == "fake"
    return {(group.dtype, group.trainable): group.count for group in profile.parameters}


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "LlamaForCausalLM"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, "fp32"),
        ("bfloat16", "fp32" if is_before("transformers", "5.0") else "bf16"),  # of 4.x whatever is configured
    ],
)
def test_a_folder_with_a_configuration_is_enough(
    kind: str, dtype: str | None, expected: str, here: Path
) -> None:
    """The model has the sizes and the type of its configuration, and a note says that no weights were read."""
    make_config(dtype=dtype).save_pretrained(here / "model")
    model = f'{kind}.from_pretrained("model", device_map="auto")'
    job = load_script(SCRIPT.format(model=model, options=""))
    profile = trace_job(job)
    assert job.module.config.name_or_path == "model"  # type: ignore[union-attr]
    assert [(group.dtype, group.count) for group in profile.parameters] == [(expected, LINEAR + OTHERS)]
    told = " ".join(profile.notes)
    assert "from_pretrained('model') at " in told
    assert "read no weights: the model is that of its configuration" in told
    assert "the model is that of one device" in told


def test_a_configuration_in_the_cache_is_enough(here: Path) -> None:
    """As `hf download owner/name config.json` leaves it: refs, and a snapshot with that file."""
    folder = here / "cache" / "models--owner--name"
    make_config().save_pretrained(folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    counted = count_parameters('AutoModelForCausalLM.from_pretrained("owner/name", cache_dir="cache")')
    assert counted == {("fp32", True): LINEAR + OTHERS}


def test_weights_that_are_here_are_loaded(here: Path) -> None:
    """They are those of the file, and nothing is said of them."""
    model = LlamaForCausalLM(make_config())
    model.save_pretrained(here / "model")
    job = load_script(
        SCRIPT.format(
            model='LlamaForCausalLM.from_pretrained(pretrained_model_name_or_path="model")', options=""
        )
    )
    loaded = job.module.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    assert "read no weights" not in " ".join(job.live.notes)


def test_a_configuration_that_is_not_here_is_named_in_one_line() -> None:
    """With what to do, at the line of the script."""
    with pytest.raises(TargetError) as caught:
        count_parameters('AutoModelForCausalLM.from_pretrained("owner/absent")')
    message = str(caught.value)
    told = "of owner/absent a config.json is needed and none is here: get it by `hf download owner/absent config.json`"
    assert told in message
    assert "train.py:8 in <module>" in message
    assert "\n" not in message


@_BEFORE_5
@pytest.mark.parametrize("twice", [False, True])
def test_weights_in_4_bits_are_counted_with_their_scales_and_adapters(twice: bool, here: Path) -> None:
    """As bitsandbytes keeps them: two weights a byte, a scale of 4 bytes for each 64, or of one byte and 4 bytes for 256
    of those; of the blocks, without the head. Only adapters train, two matrices for each layer.
    """
    make_config(dtype="bfloat16").save_pretrained(here / "model")
    asked = f"BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant={twice})"
    loaded = f'AutoModelForCausalLM.from_pretrained("model", quantization_config={asked}, device_map="auto")'
    adapters = f'LoraConfig(task_type="CAUSAL_LM", r={RANK}, target_modules="all-linear")'
    counted = count_parameters(
        f"get_peft_model(prepare_model_for_kbit_training({loaded}, False), {adapters})", "bf16=True"
    )
    adapted = LAYERS * RANK * (4 * (HIDDEN + HIDDEN) + 3 * (HIDDEN + INNER))
    assert counted[("fp32", True)] == adapted
    scales, groups = LINEAR // 64, LAYERS * 7  # each of the 7 layers of a block has fewer than 256 scales
    frozen = {key: count for key, count in counted.items() if not key[1]}
    expected = {
        "int8": LINEAR // 2 + (scales if twice else 0),
        "fp32": OTHERS + (groups if twice else scales),
    }
    assert {"int8" if "8" in dtype else dtype: count for (dtype, _), count in frozen.items()} == expected


@_BEFORE_5
def test_weights_in_4_bits_without_adapters_are_refused_as_in_the_run(here: Path) -> None:
    """By the Trainer itself."""
    make_config().save_pretrained(here / "model")
    asked = "BitsAndBytesConfig(load_in_4bit=True)"
    with pytest.raises(TargetError, match="purely quantized models"):
        count_parameters(f'AutoModelForCausalLM.from_pretrained("model", quantization_config={asked})')


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is installed")
def test_weights_in_8_bits_without_their_package_are_refused(here: Path) -> None:
    """With the reason."""
    make_config().save_pretrained(here / "model")
    asked = "BitsAndBytesConfig(load_in_8bit=True)"
    with pytest.raises(TargetError, match="bitsandbytes"):
        count_parameters(f'AutoModelForCausalLM.from_pretrained("model", quantization_config={asked})')


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own count of memory")
def test_a_large_model_without_weights_takes_no_memory(here: Path) -> None:
    """1.07 GiB of weights in fp32 raise the memory of this process by less than a quarter of that."""
    make_config(vocab_size=32_000, hidden_size=4096, intermediate_size=4096, dtype="float32").save_pretrained(
        here / "model"
    )
    before = _resident_bytes()
    job = load_script(SCRIPT.format(model='AutoModelForCausalLM.from_pretrained("model")', options=""))
    after = _resident_bytes()
    assert before is not None
    assert after is not None
    assert sum(p.numel() * p.element_size() for p in job.module.parameters()) > 2**30  # type: ignore[union-attr]
    assert after - before < 2**28
    shutil.rmtree(here / "model")
