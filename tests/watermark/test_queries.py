import numpy as np
import pytest
import torch
from scipy.stats import kstest

from auditsvc.errors import InvalidInput
from auditsvc.watermark import Queries, derive_seed, prepare_queries
from tests.bench.watermark.attacks import noisy
from tests.bench.watermark.digits import Net, answers
from tests.watermark.conftest import MASTER, PAYLOAD


@pytest.fixture(scope="module")
def queries(marked):
    return prepared(marked, marked.images[200:], marked.seed)


def prepared(marked, pool, seed, **how):
    return prepare_queries(marked.net, marked.net, pool, seed=seed, unmarked=marked.unmarked, payload=PAYLOAD, **how)


def test_logits_of_the_marked_model_show_the_mark(marked, queries):
    told = answers(Net.holding(marked.weights), queries.images)
    assert queries.test(told).z > 7.2
    assert queries.test(told.softmax(1)).z == pytest.approx(queries.test(told).z, rel=0.05)


def test_the_unmarked_model_shows_nothing(marked, queries):
    told = answers(Net.holding(marked.original), queries.images)
    shaken = answers(Net.holding(noisy(marked.original, 0.05)), queries.images)
    assert abs(queries.test(told.argmax(1)).z) < 4.5
    assert abs(queries.test(shaken).z) < 4.5


@pytest.mark.slow
def test_random_keys_score_as_the_theory_says(marked, queries):
    told = answers(Net.holding(noisy(marked.weights, 0.05)), queries.images)[:40]
    pool, scores = queries.images[:40], []
    for key in range(25):
        other = prepared(marked, pool, derive_seed(MASTER, marked.unmarked, f"null-{key}"))
        order = [int((pool == image).flatten(1).all(1).nonzero()[0, 0]) for image in other.images]
        scores.append(other.test(told[order]).z)
    assert abs(np.mean(scores)) < 0.6
    assert 0.7 < np.std(scores) < 1.35
    assert kstest(scores, "norm").pvalue > 1e-3


def test_queries_are_read_back_from_their_file(queries):
    back = Queries.from_bytes(queries.as_bytes())
    assert back.digest == queries.digest
    with pytest.raises(InvalidInput):
        Queries.from_bytes(b"something else")


def test_answers_that_do_not_fit_are_refused(queries):
    count = len(queries.first)
    for wrong in (torch.zeros(3, 10), torch.zeros(count, 1), torch.zeros(count - 1, dtype=torch.long)):
        with pytest.raises(InvalidInput):
            queries.test(wrong)


@pytest.mark.slow
def test_more_labels_change_on_images_between_two_answers(marked, queries):
    suspect = Net.holding(marked.weights)
    halfway = prepared(marked, marked.images[200:], marked.seed, halfway=True, count=400)
    labels = answers(suspect, halfway.images).argmax(1)
    assert halfway.margin.median() < 0.05 * queries.margin.median()
    assert halfway.test(labels).agreement < 0.8 < 0.95 < queries.test(answers(suspect, queries.images)).agreement


def test_rounded_probabilities_are_read_where_they_tell_something(marked, queries):
    told = answers(Net.holding(marked.weights), queries.images).softmax(1)
    assert queries.test((told * 1000).round() / 1000).z > 4
