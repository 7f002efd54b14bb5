"""A number of devices that a script divides by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from trainfare.script.device_count import DeviceCount, let_yaml_write


def test_a_count_that_is_divided_by_is_that_of_one_device_where_there_is_none() -> None:
    seen: list[float] = []
    none, four = DeviceCount.of(0, seen), DeviceCount.of(4, seen)
    assert (none, four) == (0, 4)
    assert not none
    assert list(range(four)) == [0, 1, 2, 3]
    assert (256 // none, 256 / none, 3 % none, 256 // four, 3 % four) == (256, 256.0, 0, 64, 3)
    assert seen == [256, 256.0, 64]


@pytest.mark.parametrize("write", [yaml.safe_dump, yaml.dump])
def test_a_script_writes_its_settings_as_with_a_plain_number(write: Callable[[object], str]) -> None:
    let_yaml_write()
    assert write({"devices": DeviceCount.of(4, [])}) == "devices: 4\n"
