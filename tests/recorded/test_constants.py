"""
The register of constants: every number that a module of the core, of the providers or of what decides in the plugin
gives a name, and the defaults of its classes and functions; see `builders.recorded`.

Such a number decides money and has its source or its reason beside it in the code. It is changed in two places, the
code and `constants_*.json`, so that none changes unnoticed.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import trainfare_core
import trainfare_providers
from builders.recorded import compare_with_recorded, simplify

DECIDING = ("base_commit", "methods", "policy", "prices", "pull_request")
"""Folders of the plugin whose modules decide, as `tests/mutants/packages.toml` has them."""
MODULES = ("cli.check", "cli.check_answers", "cli.limit_options", "recommendation")
MOST_NUMBERS = 300
"""Of one entry; a longer table is data, which has tests of its own."""


def list_modules(package: types.ModuleType) -> list[types.ModuleType]:
    """Import all modules of a package."""
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [package, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def list_deciding_modules() -> list[types.ModuleType]:
    """Import the modules of the plugin that decide."""
    packages = [importlib.import_module(f"trainfare.{name}") for name in DECIDING]
    alone = [importlib.import_module(f"trainfare.{name}") for name in MODULES]
    return [*(module for package in packages for module in list_modules(package)), *alone]


def read_constants(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield what a module names and gives as defaults, with the numbers in it."""
    tree = ast.parse(inspect.getsource(module))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [
            part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)
        ]
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names = [node.name]
        for name in names:
            yield from read_value(f"{module.__name__}.{name}", getattr(module, name, None))


def read_value(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a constant, or the defaults of a class or function."""
    if isinstance(value, type):
        yield name, read_defaults(value)
        for key, member in list(vars(value).items()):
            function = getattr(member, "__func__", member)
            if isinstance(function, types.FunctionType):
                yield f"{name}.{key}", read_arguments(function)
    elif isinstance(value, types.FunctionType):
        yield name, read_arguments(value)
    elif typing.get_origin(value) is typing.Annotated:
        yield name, [limit for part in value.__metadata__ for limit in getattr(part, "metadata", [part])]
    elif not callable(value) or dataclasses.is_dataclass(value):
        yield name, value


def read_arguments(function: types.FunctionType) -> dict[str, Any]:
    """Return the defaults of a function's arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def read_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults and limits of a class's fields, and its own numbers."""
    if issubclass(kind, BaseModel):
        fields: Mapping[str, FieldInfo] = kind.model_fields
        own = {name: [field.metadata, read_default(field)] for name, field in fields.items()}
        return {**own, "config": dict(kind.model_config)}
    values = {name: value for name, value in list(vars(kind).items()) if not name.startswith("__")}
    if dataclasses.is_dataclass(kind):
        options = kind.__dataclass_params__  # type: ignore[attr-defined]
        values |= {
            one.name: one.default
            for one in dataclasses.fields(kind)
            if one.default is not dataclasses.MISSING
        }
        values["frozen, eq, order"] = [options.frozen, options.eq, options.order]
    return values | getattr(kind, "_field_defaults", {})


def read_default(field: FieldInfo) -> Any:
    """Return the default of a field; a text is no constant."""
    return [] if field.is_required() else field.default


def list_numbers(value: Any) -> Any:
    """Return the numbers in a simple value, with the keys that lead to them; None where there are none."""
    if isinstance(value, (bool, int, float)) or value in ("inf", "-inf", "nan"):
        return value
    if isinstance(value, dict):
        kept = {key: numbers for key, entry in value.items() if (numbers := list_numbers(entry)) is not None}
        return kept or None
    if isinstance(value, list):
        kept_entries = [numbers for entry in value if (numbers := list_numbers(entry)) is not None]
        return kept_entries or None
    return None


def count_numbers(value: Any) -> int:
    """Return how many numbers there are in a value."""
    if isinstance(value, dict):
        return sum(map(count_numbers, value.values()))
    return sum(map(count_numbers, value)) if isinstance(value, list) else 1


@pytest.mark.parametrize("name", ["core", "providers", "plugin"])
def test_constants_are_those_of_the_register(name: str) -> None:
    if name == "plugin":
        modules = list_deciding_modules()
    else:
        modules = list_modules({"core": trainfare_core, "providers": trainfare_providers}[name])
    answers = {}
    for module in modules:
        for constant, value in read_constants(module):
            numbers = list_numbers(simplify(value))
            if numbers is not None and count_numbers(numbers) <= MOST_NUMBERS:
                answers[constant] = numbers
    compare_with_recorded(f"constants_{name}", answers)
