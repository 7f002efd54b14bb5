"""
Models of transformers with random tiny weights, one step on one batch: with FareMeter, and before launch.

`make test-wild` prints the table, and how many of the models have equal profiles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from trainfare import FareMeter, TrainingJob
from wild.both_paths import BothPaths, of_model

transformers: Any = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, while a model is built

BATCH, LENGTH, VOCABULARY = 2, 16, 99
_DIMENSIONS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
}


def _words(**more: Any) -> dict[str, Any]:
    ids = torch.randint(4, VOCABULARY, (BATCH, LENGTH))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def _causal() -> dict[str, Any]:
    batch = _words()
    return {**batch, "labels": batch["input_ids"]}


def _classes() -> dict[str, Any]:
    return _words(labels=torch.randint(0, 2, (BATCH,)))


def _make_masked() -> dict[str, Any]:
    labels = torch.randint(4, VOCABULARY, (BATCH, LENGTH))
    labels[:, ::2] = -100
    return _words(labels=labels)


def _spans() -> dict[str, Any]:
    return _words(start_positions=torch.tensor([1, 2]), end_positions=torch.tensor([3, 4]))


def _images(**more: Any) -> dict[str, Any]:
    return {"pixel_values": torch.randn(BATCH, 3, 32, 32), **more}


def _make_labelled_images() -> dict[str, Any]:
    return _images(labels=torch.randint(0, 2, (BATCH,)))


def _speech() -> dict[str, Any]:
    return {"input_values": torch.randn(BATCH, 4000), "labels": torch.randint(1, 20, (BATCH, 4))}


def _boxes() -> dict[str, Any]:
    one = {"class_labels": torch.tensor([1, 2]), "boxes": torch.rand(2, 4) * 0.4 + 0.1}
    return _images(labels=[one, one])


_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_HEADS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
_KV = {**_DIMENSIONS, "num_key_value_heads": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

MODELS: dict[str, tuple[str, str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "bert": ("Bert", "ForMaskedLM", _DIMENSIONS, _make_masked),
    "distilbert": ("DistilBert", "ForSequenceClassification", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": VOCABULARY}, _classes),
    "roberta-qa": ("Roberta", "ForQuestionAnswering", {**_DIMENSIONS, "max_position_embeddings": 40}, _spans),
    "modernbert": ("ModernBert", "ForMaskedLM", {**_DIMENSIONS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}, _make_masked),
    "deberta-v2": ("DebertaV2", "ForMaskedLM", _DIMENSIONS, _make_masked),
    "electra": ("Electra", "ForSequenceClassification", {**_DIMENSIONS, "embedding_size": 32}, _classes),
    "albert": ("Albert", "ForSequenceClassification", {**_DIMENSIONS, "embedding_size": 16}, _classes),
    "longformer": ("Longformer", "ForSequenceClassification", {**_DIMENSIONS, "attention_window": 8, "max_position_embeddings": 40}, _classes),
    "gpt2": ("GPT2", "LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY}, _causal),
    "gpt-neox": ("GPTNeoX", "ForCausalLM", _DIMENSIONS, _causal),
    "opt": ("OPT", "ForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 32, "vocab_size": VOCABULARY}, _causal),
    "llama": ("Llama", "ForCausalLM", _KV, _causal),
    "mistral": ("Mistral", "ForCausalLM", _KV, _causal),
    "qwen3": ("Qwen3", "ForCausalLM", {**_KV, "head_dim": 8}, _causal),
    "gemma3": ("Gemma3Text", "Gemma3ForCausalLM", {**_KV, "head_dim": 8}, _causal),
    "phi3": ("Phi3", "ForCausalLM", {**_KV, "pad_token_id": 0}, _causal),
    "mamba": ("Mamba", "ForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCABULARY}, _causal),
    "mamba2": ("Mamba2", "ForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 1, "chunk_size": 8}, _causal),
    "mixtral": ("Mixtral", "ForCausalLM", {**_KV, "num_local_experts": 4}, _causal),
    "qwen3-moe": ("Qwen3Moe", "ForCausalLM", {**_KV, **_EXPERTS, "head_dim": 8}, _causal),
    "olmoe": ("Olmoe", "ForCausalLM", {**_KV, "num_experts": 4, "num_experts_per_tok": 2}, _causal),
    "t5": ("T5", "ForConditionalGeneration", {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64, "vocab_size": VOCABULARY, "decoder_start_token_id": 0}, _causal),
    "bart": ("Bart", "ForConditionalGeneration", {**_HEADS, "vocab_size": VOCABULARY}, _causal),
    "whisper": ("Whisper", "ForConditionalGeneration", {**_HEADS, "vocab_size": VOCABULARY, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}, lambda: {"input_features": torch.randn(BATCH, 8, 40), "labels": torch.randint(4, VOCABULARY, (BATCH, 8))}),
    "wav2vec2": ("Wav2Vec2", "ForCTC", {**_DIMENSIONS, "conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}, _speech),
    "vit": ("ViT", "ForImageClassification", _VIT, _make_labelled_images),
    "vit-mae": ("ViTMAE", "ForPreTraining", {**_VIT, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4, "decoder_intermediate_size": 64}, _images),
    "deit": ("DeiT", "ForImageClassification", _VIT, _make_labelled_images),
    "swin": ("Swin", "ForImageClassification", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}, _make_labelled_images),
    "convnext": ("ConvNext", "ForImageClassification", {"hidden_sizes": [16, 32, 32, 32], "depths": [1, 1, 1, 1]}, _make_labelled_images),
    "segformer": ("Segformer", "ForSemanticSegmentation", {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 32}, lambda: _images(labels=torch.randint(0, 2, (BATCH, 32, 32)))),
    "clip": ("CLIP", "Model", {"text_config": {**_DIMENSIONS, "eos_token_id": 2}, "vision_config": _VIT, "projection_dim": 16}, lambda: _images(**_words(), return_loss=True)),
    "detr": ("Detr", "ForObjectDetection", {**_HEADS, "num_queries": 5, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone_config": {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage4"]}, "backbone": None}, _boxes),
    "patchtst": ("PatchTST", "ForPrediction", {"d_model": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "context_length": 32, "patch_length": 8, "patch_stride": 8, "num_input_channels": 2, "prediction_length": 4}, lambda: {"past_values": torch.randn(BATCH, 32, 2), "future_values": torch.randn(BATCH, 4, 2)}),
    "esm": ("Esm", "ForMaskedLM", {**_DIMENSIONS, "pad_token_id": 1, "mask_token_id": 3, "max_position_embeddings": 40}, _make_masked),
}  # fmt: skip
"""Prefix of the classes, suffix of the model's, settings of its configuration, and what makes a batch."""


class Wrapped(pl.LightningModule):
    """A model of transformers that returns its loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        prefix, suffix, settings, _ = MODELS[name]
        config = getattr(transformers, f"{prefix}Config")(**settings)
        self.model = getattr(transformers, suffix if suffix.startswith(prefix[:4]) else prefix + suffix)(
            config
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.model(**batch).loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


def both(name: str, folder: Path) -> BothPaths:
    """Train on one batch that is repeated, with FareMeter and before launch."""
    torch.manual_seed(1)
    batch = MODELS[name][3]()

    def fit(meter: FareMeter) -> None:
        loader: Any = DataLoader([batch] * 20, batch_size=None)
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=[meter])
        trainer.fit(Wrapped(name), loader)

    def job() -> TrainingJob:
        return TrainingJob(
            module=lambda: Wrapped(name), batch=batch, batch_size=BATCH, max_steps=20, precision="32-true"
        )

    return of_model(fit, job, folder)


@pytest.mark.parametrize("name", MODELS)
def test_before_launch_is_what_runs(name: str, tmp_path: Path) -> None:
    """FLOPs of a step, number of steps and parameters are equal in both profiles."""
    found = both(name, tmp_path)
    print(f"\n{found.row(name)}")
    assert found.equal
