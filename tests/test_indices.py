"""The set of indices that are taken."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.join.indices import IndexSet

numbers = st.integers(0, 5000)


@given(st.lists(numbers | st.lists(numbers, max_size=5)), st.lists(numbers))
def test_it_is_a_set(added, asked):
    taken, known = IndexSet(), set()
    for item in added:
        if isinstance(item, list):
            taken.update(np.array(item, np.int64))
            known.update(item)
        else:
            assert taken.add(item) == (item not in known)
            known.add(item)
    assert [number in taken for number in asked] == [number in known for number in asked]
    assert taken.among(np.array(asked, np.int64)).tolist() == [number in known for number in asked]


@given(st.sets(numbers), st.sets(numbers))
def test_what_is_in_one_and_not_in_the_other(here, there):
    sets = IndexSet(), IndexSet()
    for made, content in zip(sets, (here, there), strict=True):
        made.update(np.array(sorted(content), np.int64))
    assert sets[0].without(sets[1]) == len(here - there)
