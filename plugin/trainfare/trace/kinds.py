"""
The kind of an operation, its shape with the axes of `SHAPE_AXES`, and its compute type.

To give a new operation of torch a kind, add its name to the list of that kind below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from trainfare.trace import torch_private
from trainfare.trace.shapes import operation_shape
from trainfare_core.job_profile import OperationKind

__all__ = ["SKIPPED_NAMESPACES", "classify", "compute_dtype", "dtype_name", "free_of_kernels"]

SKIPPED_NAMESPACES: Final = frozenset({
    "prim", "profiler", "c10d", "_c10d_functional", "c10d_functional", "_dtensor"
})  # fmt: skip
"""Not kernels of the model: metadata, profiler marks, and collectives, whose time the prediction adds per plan."""

# Names of aten operations by kind, without the endings `_`, `_backward`, `_backward_data` and `_forward`.
_NAMES: Final[dict[OperationKind, str]] = {
    "matmul": (
        "mm addmm bmm matmul baddbmm mv addmv dot vdot addr ger addbmm linear _int_mm _scaled_mm _scaled_mm_v2 "
        "_addmm_activation _weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu "
        "_dyn_quant_matmul_4bit _trilinear _sparse_addmm _sparse_mm sspaddmm hspmm _cdist_forward "
        "_cdist_backward"
    ),
    "grouped_matmul": "_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2",
    "convolution": (
        "convolution _convolution convolution_backward cudnn_convolution _slow_conv2d_forward "
        "convolution_overrideable"
    ),
    "attention": (
        "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
        "_scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable "
        "_scaled_dot_product_flash_attention_for_cpu _flash_attention_forward _efficient_attention_forward "
        "_native_multi_head_attention _transformer_encoder_layer_fwd flex_attention"
    ),
    "recurrent": (
        "_cudnn_rnn mkldnn_rnn_layer miopen_rnn _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl "
        "_thnn_fused_gru_cell"
    ),
    "normalization": (
        "native_layer_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional "
        "_native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update batch_norm "
        "cudnn_batch_norm native_group_norm _fused_rms_norm miopen_batch_norm batch_norm_stats "
        "batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_elemt batch_norm_reduce "
        "_weight_norm_interface"
    ),
    "softmax": (
        "_softmax _log_softmax _safe_softmax _masked_softmax _softmax_backward_data _log_softmax_backward_data"
    ),
    "activation": (
        "relu gelu silu sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu elu celu softplus mish threshold "
        "log_sigmoid_forward log_sigmoid glu prelu _prelu_kernel rrelu_with_noise softshrink hardshrink"
    ),
    "reduction": (
        "sum mean amax amin max min argmax argmin prod var std var_mean std_mean logsumexp norm "
        "linalg_vector_norm any all count_nonzero cumsum cumprod logcumsumexp cummax cummin nansum median "
        "nanmedian mode aminmax equal _foreach_norm _foreach_max isin sort topk kthvalue unique_dim _unique2 "
        "bincount histc searchsorted bucketize"
    ),
    "embedding": "embedding _embedding_bag _embedding_bag_forward_only embedding_dense embedding_renorm_",
    "pooling": (
        "max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool2d avg_pool3d avg_pool1d "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
        "fractional_max_pool2d fractional_max_pool3d max_unpool2d max_unpool3d upsample_nearest1d "
        "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
        "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa "
        "upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_3d im2col "
        "col2im affine_grid_generator"
    ),
    "loss": (
        "nll_loss nll_loss_forward nll_loss2d_forward nll_loss2d mse_loss l1_loss smooth_l1_loss huber_loss "
        "binary_cross_entropy binary_cross_entropy_with_logits soft_margin_loss multi_margin_loss "
        "multilabel_margin_loss_forward multilabel_margin_loss _ctc_loss _cudnn_ctc_loss kl_div"
    ),
    "dropout": "native_dropout _fused_dropout bernoulli bernoulli_",
    "copy": (
        "_to_copy copy_ copy clone contiguous _copy_from fill fill_ zero_ zero zeros ones full zeros_like "
        "ones_like full_like new_zeros new_ones new_full cat stack _foreach_copy_ _foreach_zero_ "
        "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d roll flip repeat repeat_interleave unfold slice select slice_scatter select_scatter "
        "diagonal split_with_sizes_copy split_copy resize_ as_strided_scatter pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle arange linspace eye tril triu scalar_tensor _pin_memory "
        "_chunk_cat _nested_tensor_from_mask _to_dense _to_sparse view_as_complex_copy chunk_cat "
        "_sparse_coo_tensor_with_dims_and_tensors"
    ),
    "indexing": (
        "index index_put index_put_ _index_put_impl_ _unsafe_index _unsafe_index_put index_select index_add "
        "index_add_ index_copy index_copy_ index_fill index_fill_ gather scatter scatter_ scatter_add "
        "scatter_add_ scatter_reduce scatter_reduce_ take take_along_dim masked_select masked_scatter "
        "masked_scatter_ nonzero one_hot put put_ _coalesce sparse_mask"
    ),
    "other": (
        "_local_scalar_dense item is_nonzero _amp_foreach_non_finite_check_and_unscale_ _amp_update_scale_ "
        "lift_fresh_copy _assert_async rand randn randint randperm normal normal_ uniform uniform_ exponential_ "
        "random_ multinomial rand_like randn_like randint_like empty_like polar complex real imag "
        "_conj_physical"
    ),
}
# Kinds whose time is decided by FLOPs: without a formula such an operation is "unknown".
_NEEDS_FORMULA: Final = frozenset(
    {"matmul", "grouped_matmul", "convolution", "attention", "recurrent", "fft"}
)

_KINDS: Final[dict[str, OperationKind]] = {
    name: kind for kind, names in _NAMES.items() for name in names.split()
}

_DTYPES: Final[dict[torch.dtype, str]] = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
    torch.uint8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.bool: "bool",
    torch.complex32: "complex32",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype in a profile: fp32, bf16, fp8, int8, ..."""
    known = _DTYPES.get(dtype)
    if known is not None:
        return known
    word = str(dtype).removeprefix("torch.")
    return "fp8" if word.startswith("float8") else word


def free_of_kernels(func: Any) -> bool:
    """Return whether an operation launches no kernel: a view, a metadata change, or an allocation."""
    name = str(func.overloadpacket.__name__)
    if name.startswith(("empty", "new_empty", "sym_")) or name in _NO_KERNEL:
        return True
    return bool(func.is_view) or torch.Tag.inplace_view in func.tags


# Parts of the names of operations that do much more arithmetic than their bytes suggest (decompositions, solvers,
# products): without a formula they are "unknown", every other one is taken to be bound by memory bandwidth.
_COSTLY_PREFIXES: Final = (
    "linalg_",
    "_linalg_",
    "_sparse",
    "sparse_",
    "_spdiags",
    "quantize",
    "_quantize",
    "fbgemm",
)
_COSTLY_WORDS: Final = (
    "conv", "attention", "_mm", "rnn", "lstm", "gru", "svd", "cholesky", "eig", "_qr", "qr_", "lu_", "solve",
    "matrix_exp", "pdist", "cdist", "householder", "triangular", "geqrf", "ormqr", "inverse", "transformer",
)  # fmt: skip

_NO_KERNEL: Final = frozenset({
    "_unsafe_view", "lift", "lift_fresh", "lift_fresh_copy", "set_", "resize_", "resize_as_", "detach_",
    "requires_grad_", "alias", "_version", "is_pinned", "is_same_size", "record_stream", "stride", "size",
    "numel", "_has_compatible_shallow_copy_type", "rename_", "is_coalesced", "_coalesced_", "_nnz", "dim",
    "sparse_dim", "dense_dim", "is_contiguous", "storage_offset", "_fw_primal", "_make_dual", "retain_grad",
    "_fused_sdp_choice", "_local_scalar_dense", "item", "is_nonzero",
})  # fmt: skip
"""Operations that run on the host alone, or only make the host wait for the device."""


def classify(
    func: Any, args: Sequence[Any], out: Any, *, has_formula: bool
) -> tuple[OperationKind, tuple[int, ...]]:
    """
    Return the kind of an operation and its shape (`SHAPE_AXES`).

    Args:
        func: the `OpOverload`, or a higher-order operator.
        args: as dispatched.
        out: the result.
        has_formula: whether its FLOPs are known. Without a formula, an operation is "unknown" if it is not torch's
            own or may need many FLOPs per byte: zero FLOPs would be a wrong count.
    """
    packet = getattr(func, "overloadpacket", func)
    name = str(packet.__name__)
    kind = _kind(func, name, has_formula=has_formula)
    return kind, operation_shape(kind, name, args, out)


def _kind(func: Any, name: str, *, has_formula: bool) -> OperationKind:
    if getattr(func, "namespace", "") == "trainfare":
        return "elementwise"  # unpacks 4-bit weights (`trainfare.methods.four_bit_layer`)
    if getattr(func, "namespace", "") not in ("aten", "prims", "higher_order"):
        return "matmul" if has_formula else "unknown"
    known = _KINDS.get(name)
    if known is None:
        base = name
        for ending in ("_", "_backward", "_backward_data", "_forward", "_backward_no_training"):
            base = base.removesuffix(ending)
        known = _KINDS.get(base)
        if base.startswith("_fft"):
            known = "fft"
        elif base.startswith(("_foreach", "_fused")) and known is None:
            known = "optimizer"
    if known is not None:
        return "unknown" if known in _NEEDS_FORMULA and not has_formula else known
    tags = getattr(func, "tags", ())
    if torch.Tag.pointwise in tags:
        return "elementwise"
    if has_formula:
        return "matmul"
    if _is_costly(func, name):
        return "unknown"
    return "elementwise" if name.endswith("_backward") else "other"


def _is_costly(func: Any, name: str) -> bool:
    """Return whether an operation of torch may do far more arithmetic than its bytes suggest."""
    if getattr(func, "namespace", "") == "higher_order":
        return True
    return name.startswith(_COSTLY_PREFIXES) or any(word in name for word in _COSTLY_WORDS)


def compute_dtype(
    kind: OperationKind, name: str, tensors: Sequence[torch.Tensor], out: Sequence[torch.Tensor]
) -> str:
    """
    Return the type an operation computes in: that of its first floating operand, or of the result of a copy.

    Full-precision convolutions, recurrent layers and matrix products are "tf32" where torch's switches allow it on a
    CUDA device. Fused attention does not read them: in fp32 its kernel makes each product of several in TF32, and is
    timed as fp32. A product in fp8 whose scales are powers of two (e8m0, one for each block of 32 values) is "mxfp8".
    """
    first = (*out, *tensors) if kind == "copy" or not tensors else (*tensors, *out)
    chosen = next((t.dtype for t in first if t.is_floating_point() or t.is_complex()), None)
    if kind == "embedding" and not name.endswith("_backward"):
        chosen = out[0].dtype if out else chosen
    if chosen is None:
        chosen = first[0].dtype if first else torch.float32
    word = dtype_name(chosen)
    if word == "fp8" and kind == "matmul" and any("e8m0" in str(t.dtype) for t in tensors):
        return "mxfp8"
    if word == "fp32":
        if kind in ("convolution", "recurrent") and torch_private.tf32_convolution():
            return "tf32"
        if kind in ("matmul", "grouped_matmul") and torch_private.tf32_matmul():
            return "tf32"
    return word
