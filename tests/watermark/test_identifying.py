import pytest

from auditsvc.errors import InvalidInput
from auditsvc.records import digest_of
from auditsvc.watermark import (
    Detection,
    KeyMatch,
    KeyToTry,
    Payload,
    Unmarked,
    derive_seed,
    identify,
    identify_answers,
    prepare_queries,
    weights_digest,
)
from auditsvc.watermark.key_matching import BREAKS, _answer
from tests.bench.watermark.attacks import disguised, quantised
from tests.bench.watermark.digits import Net, answers, copied
from tests.watermark.conftest import MASTER, PAYLOAD, drawn


@pytest.fixture
def releases(marked):
    """Three recipients of one release, and another release."""
    kept = Unmarked(marked.original, marked.wiring)
    other = copied(drawn(4))
    known = [KeyToTry("toy-1", "", marked.seed, marked.unmarked, PAYLOAD, lambda: kept)]
    for number, name in enumerate(("anna", "bert")):
        seed = derive_seed(MASTER, marked.unmarked, "toy-1", name)
        known.append(KeyToTry("toy-1", name, seed, marked.unmarked, Payload(5, number), lambda: kept))
    digest = weights_digest(other)
    known.append(
        KeyToTry("toy-2", "", derive_seed(MASTER, digest, "toy-2"), digest, Payload(6), lambda: Unmarked(other))
    )
    return known


def scored(log10_p: float, name: str = "toy-1") -> KeyMatch:
    return KeyMatch(name, "", Detection(1.0, log10_p, 0.0, 0, 64, 10, False, 0.5))


def test_a_disguised_copy_is_traced_to_its_release_and_recipient(marked, releases):
    found = identify(quantised(disguised(marked.weights, marked.wiring), 8), releases)
    assert found.verdict == "MATCH"
    assert [(one.release, one.recipient) for one in found.matches] == [("toy-1", "")]
    assert found.dispute
    assert len(found.tried) == 4
    assert "toy-1" in found.sentence


def test_a_stranger_gets_no_evidence_and_the_limits_of_the_method(releases):
    found = identify(drawn(11).state_dict(), releases)
    assert (found.verdict, found.matches, found.dispute) == ("NO EVIDENCE", (), False)
    assert BREAKS in found.sentence
    assert "not ours" not in found.sentence


def test_every_key_that_is_tried_raises_p():
    assert _answer([scored(-12.5)], BREAKS).verdict == "MATCH"
    assert _answer([scored(-12.5), *(scored(0.0) for _ in range(9))], BREAKS).verdict == "INCONCLUSIVE"
    assert _answer([scored(-6.5), *(scored(0.0) for _ in range(9))], BREAKS).verdict == "NO EVIDENCE"


def test_an_inconclusive_answer_says_where_the_method_breaks():
    assert BREAKS in _answer([scored(-8.0)], BREAKS).sentence


def test_all_who_mixed_their_copies_are_named():
    found = _answer([scored(-50.0, "a"), scored(-40.0, "b"), scored(-1.0, "c")], BREAKS)
    assert [one.release for one in found.matches] == ["a", "b"]


def test_a_search_among_no_releases_is_refused():
    with pytest.raises(InvalidInput, match="no release"):
        identify({}, [])


@pytest.mark.slow
def test_answers_alone_can_match(marked):
    queries = prepare_queries(
        marked.net, marked.net, marked.images[200:], seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD
    )
    suspect = Net.holding(marked.weights)
    found = identify_answers([("toy-1", "", queries)], lambda asked: answers(suspect, asked.images))
    assert (found.verdict, found.matches[0].release) == ("MATCH", "toy-1")
    nothing = identify_answers([("toy-1", "", queries)], lambda asked: answers(drawn(3), asked.images))
    assert nothing.verdict == "NO EVIDENCE"
    assert "answers alone" in nothing.sentence


def test_a_release_whose_kept_file_cannot_be_opened_is_named_and_the_others_are_searched(marked, releases):
    def gone():
        raise InvalidInput("another master secret")

    lost = KeyToTry("toy-3", "", bytes(32), digest_of(b"lost"), Payload(7), gone)
    found = identify(marked.weights, [*releases, lost])
    assert found.verdict == "MATCH"
    assert [(one.release, one.reason) for one in found.untried] == [("toy-3", "another master secret")]
    assert "toy-3" in found.sentence
    with pytest.raises(InvalidInput, match="toy-3"):
        identify(marked.weights, [lost])
