"""The mutants of scripts/mutants.py fit the sources: each can be applied, and names the tests that must fail."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", TOP / "scripts" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutants", module)
    spec.loader.exec_module(module)
    return module


def test_each_mutant_applies_once_and_compiles(mutants: ModuleType) -> None:
    """A mutant with a syntax error would fail any test, and so would say nothing about the tests it names."""
    for mutant in mutants.MUTANTS:
        source = (TOP / mutant.file).read_text(encoding="utf-8")
        assert source.count(mutant.old) == 1, mutant.name
        compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")
        files = [word for word in shlex.split(mutant.tests) if word.endswith(".py")]
        assert files
        assert all((TOP / file).is_file() for file in files), mutant.name
