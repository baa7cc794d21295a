"""The JSON of Pythons without the json module is the json module's."""

import json

from hypothesis import given
from hypothesis import strategies as st

from faultkit.render.encode import encode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=64)
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_writes_what_json_writes(value):
    assert encode(value) == json.dumps(value, indent=2, ensure_ascii=True)
