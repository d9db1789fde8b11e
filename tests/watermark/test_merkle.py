from dataclasses import replace

import pytest

from auditsvc.errors import InvalidInput
from auditsvc.watermark import reveal_subkey
from auditsvc.watermark.watermark_keys import require_revealed, subkeys_root

SEED = bytes(range(32))


@pytest.mark.parametrize("lane", range(16))
def test_each_sub_key_leads_to_the_root(lane):
    require_revealed(reveal_subkey(SEED, lane), subkeys_root(SEED))


def test_a_sub_key_in_another_place_or_with_another_path_is_refused():
    reveal, root = reveal_subkey(SEED, 5), subkeys_root(SEED)
    for wrong in (
        replace(reveal, lane=4),
        replace(reveal, subkey=bytes(32)),
        replace(reveal, path=reveal.path[:-1]),
        replace(reveal, path=(bytes(32), *reveal.path[1:])),
        reveal_subkey(bytes(32), 5),
    ):
        with pytest.raises(InvalidInput):
            require_revealed(wrong, root)


def test_there_are_sixteen_sub_keys():
    with pytest.raises(InvalidInput, match="0 to 15"):
        reveal_subkey(SEED, 16)
