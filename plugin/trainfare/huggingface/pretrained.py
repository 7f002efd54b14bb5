"""Pretrained models before launch: built from a configuration where weights are not here, or are to be packed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainfare.job.fit_call import Recorder
from trainfare.methods.four_bit_layer import FourBitLinear

_LARGE_NUMEL: Final = 2**20
"""Elements above which a weight gets no value; chosen: 4 MiB in fp32, above any table that a model reads."""

_aten: Any = torch.ops.aten
_ZEROS, _EMPTY = _aten.zeros.default, _aten.empty.memory_format


class _WithoutValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves large new tensors as they are, so that the system gives them no memory before something is written."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        fills = func._schema.name.endswith("_") and args and isinstance(args[0], Tensor)  # noqa: SLF001
        if fills and args[0].numel() > _LARGE_NUMEL:
            return args[0]
        made = _EMPTY if func is _ZEROS and math.prod(args[0]) > _LARGE_NUMEL else func
        return made(*args, **(kwargs or {}))


class _PackedLinear(FourBitLinear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name for it
        """Map (..., in_features) to (..., out_features), in the type of the input, as bitsandbytes' layer does."""
        return super().forward(input).to(input.dtype)


def replace_configuration(home: str, replace: Callable[..., None], _: Recorder) -> None:
    """Say in one line which configuration is not here; see `trainfare.huggingface.script`."""
    configurations: Any = sys.modules[home]
    kind = getattr(configurations, "PreTrainedConfig", None) or configurations.PretrainedConfig  # before 5.0
    original = kind.get_config_dict.__func__

    def read(cls: Any, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        name = pretrained_model_name_or_path
        try:
            return original(cls, name, **kwargs)
        except OSError:
            problem = f"of {name} a config.json is needed and none is here"
            advice = f"get it by `hf download {name} config.json`; a trace needs no weights"
            raise OSError(f"{problem}: {advice}") from None

    replace(kind, "get_config_dict", classmethod(cast("Any", read)))


def replace_loading(home: str, replace: Callable[..., None], recorder: Recorder) -> None:
    """Build models from configurations where their weights are not here; see `trainfare.huggingface.script`."""
    kind: Any = sys.modules[home].PreTrainedModel
    original = kind.from_pretrained.__func__

    def load(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        name = pretrained_model_name_or_path
        if kwargs.pop("device_map", None) not in (None, "cpu"):
            recorder.skip("device_map", "was left out: the model is that of one device")
        asked: Any = kwargs.get("quantization_config")
        if not getattr(asked, "load_in_4bit", False):
            try:
                return original(cls, name, *args, **{**kwargs, "local_files_only": True})
            except (OSError, AttributeError):  # the latter in 4.57, of a file that its cache lacks
                asked = None
        nothing = {"not_here": torch.empty(0)}  # in the type of weights of which the configuration tells none
        built = {**kwargs, "config": kwargs.get("config") or name, "state_dict": nothing}
        if asked is not None:
            del built["quantization_config"]
        with _WithoutValues():  # type: ignore[no-untyped-call]
            model = original(cls, None, *args, **built)
            if asked is not None:
                _pack(model, asked)
        model.name_or_path = model.config.name_or_path = str(name)
        recorder.skip(
            f"from_pretrained({str(name)!r})", "read no weights: the model is that of its configuration"
        )
        return model

    replace(kind, "from_pretrained", classmethod(cast("Any", load)))


def _pack(model: Any, asked: Any) -> None:
    """Pack linear layers in 4 bits, those that transformers chooses; neither bitsandbytes nor a GPU is used."""
    quantizers: Any = import_module("transformers.quantizers.quantizer_bnb_4bit")
    tools: Any = import_module("transformers.quantizers.quantizers_utils")
    quantizer = quantizers.Bnb4BitHfQuantizer(asked)
    kept = quantizer.get_modules_to_not_convert(
        model,
        asked.llm_int8_skip_modules,
        model._keep_in_fp32_modules,  # noqa: SLF001
    )
    layers: list[tuple[str, nn.Module]] = list(model.named_modules())
    for name, layer in layers:
        if type(layer) is nn.Linear and tools.should_convert_module(name, kept):
            model.set_submodule(
                name,
                _PackedLinear(layer, asked.bnb_4bit_compute_dtype, twice=asked.bnb_4bit_use_double_quant),
            )
    model.hf_quantizer, model.quantization_method = quantizer, asked.quant_method
    model.is_quantized = model.is_loaded_in_4bit = True
    model.config.quantization_config = asked
