"""Results on fake tensors that are made from sizes alone are those that torch finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from builders.versions import is_before
from trainfare.fake_step.fake_results import MAKERS, find_known_result

_aten: Any = torch.ops.aten
_Calls = Callable[[torch.dtype], tuple[Any, ...]]
_ROWS, _COLUMNS = 6, 8


def _rows(dtype: torch.dtype) -> Tensor:
    return torch.empty(_ROWS, _COLUMNS, dtype=dtype)


def _images(dtype: torch.dtype, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    return torch.empty(2, 3, 4, 5, dtype=dtype).to(memory_format=memory_format)


def _channel(dtype: torch.dtype) -> Tensor:
    return torch.empty(3, dtype=dtype)


_VIEWS: dict[str, _Calls] = {
    "detach.default": lambda dtype: (_images(dtype),),
    "view.default": lambda dtype: (_rows(dtype), [2, 24]),
    "_unsafe_view.default": lambda dtype: (_rows(dtype), [2, 24]),
    "t.default": lambda dtype: (_rows(dtype),),
    "transpose.int": lambda dtype: (_images(dtype), 1, 2),
    "permute.default": lambda dtype: (_images(dtype), [0, 2, 3, 1]),
    "expand.default": lambda dtype: (_channel(dtype).view(1, 3), [4, 3]),
    "slice.Tensor": lambda dtype: (_rows(dtype), 0, 2, 5),
    "select.int": lambda dtype: (_rows(dtype), 1, 3),
    "unsqueeze.default": lambda dtype: (_rows(dtype), 1),
}
_ONE = "neg relu sigmoid silu gelu tanh hardswish hardsigmoid hardtanh leaky_relu elu"
_TWO = "silu_backward gelu_backward sigmoid_backward tanh_backward hardswish_backward hardsigmoid_backward"
_OTHERS: dict[str, _Calls] = {
    **{f"{name}.default": lambda dtype: (_images(dtype),) for name in _ONE.split()},
    **{f"{name}.default": lambda dtype: (_images(dtype), _images(dtype)) for name in _TWO.split()},
    **{f"{name}.Tensor": lambda dtype: (_rows(dtype).t(), _rows(dtype).t()) for name in ("add", "sub", "mul", "div")},
    **{f"{name}.Scalar": lambda dtype: (_rows(dtype), 2.0) for name in ("mul", "div")},
    "threshold_backward.default": lambda dtype: (_rows(dtype), _rows(dtype), 0),
    "hardtanh_backward.default": lambda dtype: (_images(dtype), _images(dtype), -1.0, 1.0),
    "leaky_relu_backward.default": lambda dtype: (_rows(dtype), _rows(dtype), 0.01, False),
    "clone.default": lambda dtype: (_images(dtype),),
    "_to_copy.default": lambda dtype: (_images(dtype),),
    "zeros_like.default": lambda dtype: (_rows(dtype).t(),),
    "ones_like.default": lambda dtype: (_rows(dtype),),
    "empty_like.default": lambda dtype: (_images(dtype)[:1],),
    "mm.default": lambda dtype: (_rows(dtype), _rows(dtype).t()),
    "bmm.default": lambda dtype: (_rows(dtype)[None], _rows(dtype).t()[None]),
    "addmm.default": lambda dtype: (_channel(dtype), _rows(dtype), torch.empty(_COLUMNS, 3, dtype=dtype)),
    "native_layer_norm.default": lambda dtype: (
        _rows(dtype), [_COLUMNS], torch.empty(_COLUMNS, dtype=dtype), torch.empty(_COLUMNS, dtype=dtype), 1e-5,
    ),
    "native_layer_norm_backward.default": lambda dtype: (
        _rows(dtype), _rows(dtype), [_COLUMNS], torch.empty(_ROWS, 1, dtype=dtype), torch.empty(_ROWS, 1, dtype=dtype),
        torch.empty(_COLUMNS, dtype=dtype), None, [True, True, False],
    ),
    "native_batch_norm.default": lambda dtype: (
        _images(dtype), *(_channel(torch.float32) for _ in range(4)), True, 0.1, 1e-5,
    ),
    "native_batch_norm_backward.default": lambda dtype: (
        _images(dtype), _images(dtype), *(_channel(torch.float32) for _ in range(3)), _channel(dtype), _channel(dtype),
        True, 1e-5, [True, True, False],
    ),
}  # fmt: skip
_IN_PLACE = "relu_ silu_ sqrt_ zero_ hardtanh_ hardswish_"
_WRITING: dict[str, _Calls] = {
    **{f"{name}_.Tensor": lambda dtype: (_images(dtype), _images(dtype)) for name in ("add", "sub", "mul", "div")},
    **{f"{name}_.Scalar": lambda dtype: (_rows(dtype), 0.9) for name in ("add", "mul", "fill")},
    **{f"{name}.default": lambda dtype: (_images(dtype),) for name in _IN_PLACE.split()},
    **{f"{name}.default": lambda dtype: tuple(_rows(dtype) for _ in range(3)) for name in ("addcmul_", "addcdiv_")},
    "lerp_.Scalar": lambda dtype: (_rows(dtype), _rows(dtype), 0.1),
}  # fmt: skip


def _lists(dtype: torch.dtype, count: int) -> tuple[list[Tensor], ...]:
    return tuple([_rows(dtype), _channel(dtype)] for _ in range(count))


_WRITING_LISTS: dict[str, _Calls] = {
    **{f"_foreach_{name}_.List": lambda dtype: _lists(dtype, 2) for name in ("add", "mul", "div")},
    **{f"_foreach_{name}_.Scalar": lambda dtype: (*_lists(dtype, 1), 2.0) for name in ("add", "mul")},
    **{f"_foreach_{name}_.Scalar": lambda dtype: (*_lists(dtype, 3), 1.0) for name in ("addcmul", "addcdiv")},
    "_foreach_sqrt_.default": lambda dtype: _lists(dtype, 1),
    "_foreach_lerp_.Scalar": lambda dtype: (*_lists(dtype, 2), 0.1),
}  # fmt: skip
_ALL = {**_VIEWS, **_OTHERS, **_WRITING, **_WRITING_LISTS}


def _describe_result(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return tuple(_describe_result(each) for each in cast("list[Any]", result))
    if result is None:
        return None
    assert isinstance(result, FakeTensor)
    return tuple(result.shape), result.stride(), result.dtype, result.device, result.storage_offset()


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(_aten, packet), overload)


def _both(name: str, calls: _Calls, dtype: torch.dtype) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return what is known of a call, what torch finds, and its arguments."""
    func = _operation(name)
    with FakeTensorMode():
        args = calls(dtype)
        return find_known_result(func, args, {}), func(*args), args


def test_every_known_operation_is_compared() -> None:
    assert {id(_operation(name)) for name in _ALL} == set(MAKERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", _ALL)
def test_a_known_result_is_that_of_torch(name: str, dtype: torch.dtype) -> None:
    known, found, _ = _both(name, _ALL[name], dtype)
    assert known is not NotImplemented
    if name.startswith("native_layer_norm.") and dtype != torch.float32 and is_before("torch", "2.6"):
        pytest.skip("torch 2.5 keeps other statistics on fake tensors of a CPU than on real ones")
    assert _describe_result(known) == _describe_result(found)


@pytest.mark.parametrize("name", _VIEWS)
def test_a_view_shares_the_memory_of_its_operand(name: str) -> None:
    known, _, args = _both(name, _VIEWS[name], torch.float32)
    assert known.untyped_storage()._cdata == args[0].untyped_storage()._cdata


@pytest.mark.parametrize("name", _OTHERS)
def test_any_other_result_has_memory_of_its_own(name: str) -> None:
    known, _, args = _both(name, _OTHERS[name], torch.float32)
    made = [each for each in (known if isinstance(known, (list, tuple)) else [known]) if each is not None]
    given = {arg.untyped_storage()._cdata for arg in args if isinstance(arg, Tensor)}
    own = {each.untyped_storage()._cdata for each in made}
    assert len(own) == len(made)
    assert not own & given


@pytest.mark.parametrize("name", _WRITING)
def test_what_writes_in_place_returns_its_operand(name: str) -> None:
    known, _, args = _both(name, _WRITING[name], torch.float32)
    assert known is args[0]


def test_a_copy_has_the_type_and_the_memory_format_that_are_asked_for() -> None:
    with FakeTensorMode():
        images = _images(torch.float32)
        cast_down = find_known_result(_aten._to_copy.default, (images,), {"dtype": torch.bfloat16})
        plain = find_known_result(_aten.clone.default, (images,), {"memory_format": torch.contiguous_format})
        moved = find_known_result(_aten._to_copy.default, (images,), {"device": torch.device("meta")})
    assert (cast_down.dtype, cast_down.stride()) == (torch.bfloat16, images.stride())
    assert plain.is_contiguous()
    assert moved is NotImplemented


def test_lists_of_tensors_of_other_sizes_are_left_to_torch() -> None:
    with FakeTensorMode():
        weights, gradients = _lists(torch.float32, 2)
        assert find_known_result(_aten._foreach_add_.List, (weights, gradients), {"alpha": -0.1}) is None
        swapped = find_known_result(_aten._foreach_add_.List, (weights, gradients[::-1]), {})
    assert swapped is NotImplemented


def _make_mixed() -> tuple[Any, Any]:
    return _aten.add.Tensor, (_rows(torch.float32), _rows(torch.bfloat16))


def _broadcast() -> tuple[Any, Any]:
    return _aten.add.Tensor, (_rows(torch.float32), torch.empty(_COLUMNS))


def _wrong_sizes() -> tuple[Any, Any]:
    return _aten.mm.default, (_rows(torch.float32), _rows(torch.float32))


def _overlapping() -> tuple[Any, Any]:
    return _aten.clone.default, (torch.empty(1).expand(5),)


def _complex() -> tuple[Any, Any]:
    return _aten.neg.default, (torch.empty(3, dtype=torch.complex64),)


def _evaluation() -> tuple[Any, Any]:
    return _aten.native_batch_norm.default, (
        _images(torch.float32), *(_channel(torch.float32) for _ in range(4)), False, 0.1, 1e-5,
    )  # fmt: skip


def _make_written_twice() -> tuple[Any, Any]:
    return _aten.add_.Tensor, (torch.empty(1).expand(5), torch.empty(5))


def _fraction_of_a_count() -> tuple[Any, Any]:
    return _aten.mul_.Tensor, (torch.empty(3, dtype=torch.long), 0.5)


def _constant() -> tuple[Any, Any]:
    return _aten.neg.default, (torch.tensor(3.0),)


@pytest.mark.parametrize(
    "calls",
    [
        _make_mixed,
        _broadcast,
        _wrong_sizes,
        _overlapping,
        _complex,
        _evaluation,
        _make_written_twice,
        _fraction_of_a_count,
        _constant,
    ],
)
def test_torch_finds_or_refuses_what_depends_on_more_than_one_size(
    calls: Callable[[], tuple[Any, Any]],
) -> None:
    with FakeTensorMode():
        func, args = calls()
        assert find_known_result(func, args, {}) is NotImplemented


def test_real_tensors_are_left_to_torch() -> None:
    assert find_known_result(_aten.relu.default, (torch.zeros(3),), {}) is NotImplemented
