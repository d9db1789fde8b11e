"""The distance from a target, its interval, and what is missing in each group."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.datasets import Slices, column_from
from auditsvc.datasets.representation import read_target, representation
from auditsvc.errors import InvalidInput, NotFound


def slices(counts, clusters=None):
    words = [word for word, count in counts.items() for _ in range(count)]
    columns = (column_from("sex", [word[0] for word in words]), column_from("age", [word[1:] for word in words]))
    return Slices(len(words), columns, clusters)


def test_shares_like_the_target_are_at_no_distance_and_nothing_is_missing():
    found = representation({"sex=F": 1, "sex=M": 3}, slices({"Fold": 25, "Mold": 75}), 0.05)
    assert (found.distance, found.missing, found.empty) == (0, 0, ())
    assert (found.low, found.images) == (0, 100) and 0.1 < found.high < 0.2


def test_products_are_counted_and_an_empty_one_is_named():
    target = {"sex=F & age=old": 0.25, "sex=F & age=young": 0.25, "sex=M & age=old": 0.5}
    found = representation(target, slices({"Fold": 10, "Mold": 80, "Myoung": 10}), 0.05)
    assert found.empty == ("sex=F & age=young",)
    assert found.cells == {"sex=F & age=old": (10, 15), "sex=F & age=young": (0, 25), "sex=M & age=old": (80, 0)}
    assert found.distance == pytest.approx(0.4)  # 15 + 25 of 100 are of other cells, 10 of them of none of the target's


def test_clusters_widen_the_interval():
    counts, target = {"Fold": 50, "Mold": 50}, {"sex=F": 1, "sex=M": 1}
    alone = representation(target, slices(counts), 0.05)
    clustered = representation(target, slices(counts, np.repeat(np.arange(20), 5)), 0.05)
    assert clustered.high > 2 * alone.high


def test_the_interval_holds_the_truth():
    rng, target = np.random.default_rng(2), {"sex=F": 1, "sex=M": 1}
    truth, held = 0.2, 0
    for _ in range(100):
        women = int(rng.binomial(200, 0.3))
        found = representation(target, slices({"Fold": women, "Mold": 200 - women}), 0.05)
        held += found.low <= truth <= found.high
    assert held >= 90


@pytest.mark.parametrize(
    ("target", "words"),
    [({}, "needs cells"), ({"sex=F": 0.0}, "add up to more"), ({"hair=red": 1}, "no column 'hair'; it has sex, age"),
     ({"F": 1}, "no column"), ({"sex=F": 1, "age=old": 1}, "overlap: sex=F and age=old")],
)  # fmt: skip
def test_a_target_that_does_not_fit_is_refused(target, words):
    with pytest.raises(InvalidInput, match=words):
        representation(target, slices({"Fold": 5, "Mold": 5}), 0.05)


def test_a_table_is_read_and_a_wrong_one_is_refused_with_its_line(tmp_path):
    path = tmp_path / "census.csv"
    path.write_text("sex,age,share\nF,old,20\nM, old ,80\n")
    assert read_target(path) == {"sex=F & age=old": 20, "sex=M & age=old": 80}
    for text, words in (("sex\nF\n", "column 'share'"), ("sex,share\nF,many\n", "line 2: the share 'many'"),
                        ("sex,share\nF,1\nF,1\n", "line 3"), ("sex,share\nF,nan\n", "line 2"),
                        ("sex,share\nF\n", "line 2: another number")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(InvalidInput, match=words):
            read_target(path)
    with pytest.raises(NotFound, match="no target table"):
        read_target(tmp_path / "none.csv")
