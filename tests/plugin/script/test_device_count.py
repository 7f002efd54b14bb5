"""A number of devices that a script divides by."""

from __future__ import annotations

from trainfare.script.device_count import DeviceCount


def test_a_count_that_is_divided_by_is_that_of_one_device_where_there_is_none() -> None:
    seen: list[float] = []
    none, four = DeviceCount.of(0, seen), DeviceCount.of(4, seen)
    assert (none, four) == (0, 4)
    assert not none
    assert list(range(four)) == [0, 1, 2, 3]
    assert (256 // none, 256 / none, 3 % none, 256 // four, 3 % four) == (256, 256.0, 0, 64, 3)
    assert seen == [256, 256.0, 64]
