"""One micro-batch in a line of text: what it means, and a sentence for each way to get it wrong."""

from __future__ import annotations

import pytest

from trainfare.job.made_up_data import BatchItem, parse_batch
from trainfare_core.errors import InputError


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (
            "images:float32[32,3,224,224],labels:int64[32]",
            (BatchItem("images", "float32", (32, 3, 224, 224)), BatchItem("labels", "int64", (32,))),
        ),
        (
            " float32[ 8, 3 ] , int64[8] < 10 ",
            (BatchItem("", "float32", (8, 3)), BatchItem("", "int64", (8,), 10)),
        ),
        ("bool[]", (BatchItem("", "bool", ()),)),
        ("a.b-c:uint8[2]<256", (BatchItem("a.b-c", "uint8", (2,), 256),)),
        ("int8[1]<128", (BatchItem("", "int8", (1,), 128),)),
    ],
)
def test_what_a_text_describes(text: str, items: tuple[BatchItem, ...]) -> None:
    """Names, types, sizes and limits; blanks do not matter."""
    assert parse_batch(text) == items


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at '': a tensor is name:dtype"),
        ("float32[4],", "at '': a tensor is name:dtype"),
        ("float32", "at 'float32': a tensor is name:dtype"),
        ("float32(4)", "a tensor is name:dtype"),
        ("float32[4", "a tensor is name:dtype"),
        ("float32[[4]]", "a tensor is name:dtype"),
        ("int64[4] int64[4]", "a tensor is name:dtype"),
        ("int64[4]<", "a tensor is name:dtype"),
        ("1x:int64[4]", "a tensor is name:dtype"),
        ("x:fp32[4]", "'fp32' is no dtype: they are bool, uint8"),
        ("x:float32[0]", "at 'x:float32.0.': sizes are whole numbers from 1"),
        ("float32[-1,3]", "sizes are whole numbers"),
        ("float32[1.5]", "sizes are whole numbers"),
        ("float32[4,]", "sizes are whole numbers"),
        (f"float32[{'9' * 5000}]", "sizes are whole numbers"),
        ("float32[4]<3", "<3 needs a dtype of whole numbers"),
        ("bool[4]<2", "<2 needs a dtype of whole numbers"),
        ("int8[4]<129", "<129 needs a dtype of whole numbers that holds them"),
        ("int64[4]<0", "is at least 1"),
        ("x:float32[4],int64[4]", "name all tensors, each by another name, or none"),
        ("x:float32[4],x:int64[4]", "name all tensors, each by another name"),
        ("float64[1024,1024,1025]", "more than 8 GiB in all"),
    ],
)
def test_a_malformed_text_is_refused_with_the_part_and_an_example(text: str, message: str) -> None:
    """Before any process starts; the part that is wrong is shown, however long the text is."""
    with pytest.raises(InputError, match=message) as raised:
        parse_batch(text)
    assert str(raised.value).endswith("e.g. --batch 'float32[4,16],int64[4]'")
    assert len(str(raised.value)) < 250
