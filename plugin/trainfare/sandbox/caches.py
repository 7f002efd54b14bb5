"""Folders of caches that the user's code fills for real: what libraries download or compile once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def list_caches(environment: Mapping[str, str]) -> list[Path]:
    """
    Return the folders of hubs and compilers, whether they are there or not; docs/scripts.md lists them.

    >>> [str(path) for path in list_caches({"HOME": "/home/me", "HF_HOME": "/data/hf"})][:2]
    ['/data/hf', '/home/me/.cache/torch']
    """
    home = Path(environment.get("HOME") or Path.home())
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    chosen = (
        ("HF_HOME", cache / "huggingface"),
        ("TORCH_HOME", cache / "torch"),
        ("TRITON_CACHE_DIR", home / ".triton" / "cache"),
        ("KAGGLEHUB_CACHE", cache / "kagglehub"),
        ("MODELSCOPE_CACHE", cache / "modelscope"),
    )
    also = ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "TORCHINDUCTOR_CACHE_DIR")
    folders = [Path(environment.get(name) or usual) for name, usual in chosen]
    return [*folders, *(Path(environment[name]) for name in also if environment.get(name))]


def find_data_sets(environment: Mapping[str, str]) -> Path:
    """
    Return the folder in which Hugging Face's `datasets` keeps what it has prepared.

    >>> str(find_data_sets({"HF_HOME": "/data/hf"}))
    '/data/hf/datasets'
    """
    return Path(environment.get("HF_DATASETS_CACHE") or list_caches(environment)[0] / "datasets")
