"""Find the model that a name or a configuration file means, without a network."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast

from torch import nn

from trainfare_core.errors import InputError, UnknownNameError
from trainfare_core.number_format import shorten_text
from trainfare_providers.disk.files import read_input

Task: TypeAlias = Literal["text", "text-class", "image-class", "speech"]

_CONFIG: Final = "config.json"
_MOST_CONFIG_BYTES: Final = 2**20
"""A configuration has some kilobytes; a larger file is another one, named by mistake."""
_TASKS: Final[Mapping[str, Task]] = {
    "WhisperForConditionalGeneration": "speech",
    "ForCausalLM": "text",
    "LMHeadModel": "text",
    "ForMaskedLM": "text",
    "ForConditionalGeneration": "text",
    "ForSequenceClassification": "text-class",
    "ForImageClassification": "image-class",
}
"""Endings of the classes of transformers whose input and loss are known."""
_DECODERS: Final = ("ForCausalLM", "LMHeadModel")
"""Of them, classes that generate text token by token."""
_OTHER_TASKS: Final = ("detection", "segmentation", "video", "optical_flow", "quantization")
"""Packages of torchvision.models whose models do not classify images."""
_USUAL_PIXELS: Final = 224
"""Side of the images that most of torchvision's models are trained on."""
_NAMES_SHOWN: Final = 8
_TO_DESCRIBE: Final[Mapping[str, str]] = {
    "clip": "it is trained on pairs of an image and a text",
    "mamba": "its scan is a kernel of its own, which a trace without a GPU does not see",
    "sdxl": "its U-Net is trained on latents and noise",
    "stable-diffusion": "its U-Net is trained on latents and noise",
    "wav2vec2": "its loss depends on the lengths of the sound and of the text",
}
"""Beginnings of names that many ask for, whose step no name alone says, and why."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """
    A model that can be built.

    Attributes:
        name: what to call it.
        origin: where its configuration comes from, for a note.
        task: decides its batch and its loss.
        build: builds it with weights drawn at random; nothing is downloaded.
        tokens: of the longest sequence that it takes; None where there is no such limit, or no sequence.
        image_size: pixels of one side, for images.
        sound: mel bins and frames of one clip, for speech.
        kv_bytes_per_token: keys and values of a decoder in 16 bits, over all layers; None: not known.
    """

    name: str
    origin: str
    task: Task
    build: Callable[[], nn.Module]
    tokens: int | None = None
    image_size: int | None = None
    sound: tuple[int, int] | None = None
    kv_bytes_per_token: int | None = None


def model_named(name: str) -> FoundModel:
    """
    Return the model that a name or a path means.

    Args:
        name: a `config.json` of Hugging Face or its folder, a name in `KNOWN_MODELS`, or a name in timm or
            torchvision, with `timm/` or `torchvision/` before it where both have one.

    Raises:
        InputError: no such model, a configuration that does not say what to build, a package that is not installed.
    """
    path = Path(name)
    if path.is_dir():
        path /= _CONFIG
        if not path.is_file():
            raise InputError(f"{name}: there is no {_CONFIG} in this folder")
    if path.is_file() or path.suffix == ".json":
        return _from_file(path)
    known = KNOWN_MODELS.get(name.lower())
    if known is not None:
        config_class = _find_class(known["architecture"], name).config_class
        config = config_class(**known["sizes"])
        return _of_transformers(name, f"the published sizes of {name}", known["architecture"], config)
    package, slash, rest = name.partition("/")
    if slash and package in ("timm", "torchvision"):
        model = _of_package(package, rest)
        if model is None:
            raise InputError(f"--model {name}: {_missing(package)}")
        return model
    for origin in ("timm", "torchvision"):
        model = None if slash else _of_package(origin, name)
        if model is not None:
            return model
    family = next((family for family in _TO_DESCRIBE if path.name.lower().startswith(family)), "")
    if family:
        raise InputError(f"--model {name}: {_TO_DESCRIBE[family]}: describe the run as a TARGET")
    if slash:
        msg = f"--model {name}: looks like a name on the Hugging Face Hub, and nothing is downloaded"
        raise InputError(f"{msg}: save its config.json and give that file")
    raise UnknownNameError(
        f"--model {name!r}: there is no such file, and no model of that name; {_hint(name)}"
    )


def _hint(name: str) -> str:
    installed = [
        package for package in ("timm", "torchvision") if importlib.util.find_spec(package) is not None
    ]
    names = [*KNOWN_MODELS]
    for package in installed:
        home: Any = import_module("torchvision.models" if package == "torchvision" else package)
        names += home.list_models()
    near = difflib.get_close_matches(name.lower(), names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    others = f", a name in {' or '.join(installed)}" if installed else ""
    return f"give a config.json of Hugging Face{others}, or one of {', '.join(KNOWN_MODELS)}"


def _missing(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed: pip install {package}"
    return f"{package} has no image classifier of that name"


def _from_file(path: Path) -> FoundModel:
    text = read_input(path, _MOST_CONFIG_BYTES, kind="a model configuration")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter where values lie too deep in one another
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no configuration: it has no fields")
    fields = cast("dict[str, Any]", data)
    architectures = fields.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        msg = f'{path}: does not say which model it describes: add "architectures": ["LlamaForCausalLM"]'
        raise InputError(f"{msg}, or the class that is yours")
    architecture = str(cast("list[object]", architectures)[0])
    kind = _find_class(architecture, str(path))
    try:
        config = kind.config_class.from_dict(fields)
    except Exception as error:  # a configuration class checks its fields in its own ways
        raise InputError(shorten_text(f"{path}: {type(error).__name__}: {error}", 500)) from error
    name = path.parent.name if path.name == _CONFIG and path.parent.name else path.stem
    return _of_transformers(name, str(path), architecture, config)


def _find_class(architecture: str, where: str) -> Any:
    """Return a class of transformers whose configuration and loss are known."""
    # Set before the first import: nothing may ask the Hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if importlib.util.find_spec("transformers") is None:
        raise InputError(f"{where}: transformers is not installed: pip install transformers")
    transformers: Any = import_module("transformers")
    transformers.logging.set_verbosity_error()
    kind: object = getattr(transformers, architecture, None)
    if not isinstance(kind, type):
        msg = f"{where}: transformers {transformers.__version__} has no {architecture}"
        raise InputError(
            f"{msg}: a model with code of its own is traced as a TARGET, see trainfare recommend"
        )
    if _task_of(architecture) is None:
        msg = f"{where}: {architecture} has no loss that is known here; known are classes that end in"
        raise InputError(f"{msg} {', '.join(_TASKS)}")
    return kind


def _task_of(architecture: str) -> Task | None:
    return next((task for ending, task in _TASKS.items() if architecture.endswith(ending)), None)


def _of_transformers(name: str, origin: str, architecture: str, config: Any) -> FoundModel:
    task = cast("Task", _task_of(architecture))
    if hasattr(config, "vision_config") or hasattr(config, "audio_config"):
        msg = f"{name}: {architecture} takes images or sound beside text, whose sizes a configuration does not say"
        raise InputError(f"{msg}: describe the run as a TARGET")
    if getattr(config, "use_cache", False):
        config.use_cache = False  # of keys and values, which training does not use
    kind: Any = getattr(import_module("transformers"), architecture)
    return FoundModel(
        name,
        origin,
        task,
        lambda: kind(config),
        tokens=_longest(config) if task in ("text", "text-class") else None,
        image_size=getattr(config, "image_size", None),
        # The encoder halves the frames before its positions.
        sound=(config.num_mel_bins, 2 * config.max_source_positions) if task == "speech" else None,
        kv_bytes_per_token=count_cache_bytes(config) if architecture.endswith(_DECODERS) else None,
    )


def count_cache_bytes(config: Any) -> int | None:
    """
    Return the bytes of one token's keys and values in 16 bits, over all layers; None: the configuration does not say.

    Args:
        config: of transformers. Layers with a window or a state of fixed size count like the others, which is too much.
    """
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    width, latent = getattr(config, "hidden_size", None), getattr(config, "kv_lora_rank", None)
    if latent and layers:  # multi-head latent attention keeps one compressed vector, and keys with positions
        return int(2 * layers * (latent + getattr(config, "qk_rope_head_dim", 0)))
    if not layers or not heads or not width:
        return None
    shared = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or width // heads
    return int(2 * 2 * layers * shared * head)


def _longest(config: Any) -> int | None:
    """Return the tokens for which there are learned positions; rotary and relative ones have no such limit."""
    rotary = any(getattr(config, name, None) for name in ("rope_theta", "rope_parameters", "rope_scaling"))
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 and not rotary else None


def _of_package(package: str, name: str) -> FoundModel | None:
    """Return an image classifier of timm or torchvision; None where there is none of that name."""
    if importlib.util.find_spec(package) is None:
        return None
    if package == "timm":
        timm: Any = import_module("timm")
        if not timm.is_model(name):
            return None
        size = timm.get_pretrained_cfg(name)
        pixels = _USUAL_PIXELS if size is None else int(size.input_size[-1])
        return FoundModel(
            name,
            f"timm {timm.__version__}",
            "image-class",
            lambda: timm.create_model(name),
            image_size=pixels,
        )
    models: Any = import_module("torchvision.models")
    if name not in models.list_models():
        return None
    builder = models.get_model_builder(name)
    if any(f".{other}" in builder.__module__ for other in _OTHER_TASKS):
        msg = f"--model {name}: torchvision's {name} does not classify images"
        raise InputError(f"{msg}, and its batch is not known: describe the run as a TARGET")
    version = cast("Any", import_module("torchvision")).__version__
    pixels = 299 if name == "inception_v3" else _USUAL_PIXELS
    return FoundModel(
        name, f"torchvision {version}", "image-class", lambda: builder(weights=None), image_size=pixels
    )


KNOWN_MODELS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    json.loads(Path(__file__).with_name("known_models.json").read_text(encoding="utf-8"))
)
"""
Class of transformers, and the sizes of the `config.json` that the authors published which differ from its defaults.

The names are theirs in lower case, without the owner.
"""
