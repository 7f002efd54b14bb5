"""The class of Lightning that FareMeter derives from."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from trainfare.lightning import callback_base as lightning_base
from trainfare_core.errors import MissingExtraError


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package can be imported: the error of the import says what to install."""
    for name in lightning_base.NAMESPACES:
        monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.spec_from_file_location("lightning_base_again", lightning_base.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(MissingExtraError, match=r"neither pytorch-lightning nor lightning.*\[lightning\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
