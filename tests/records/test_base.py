"""What every record is: named by its bytes, once and for all."""

from __future__ import annotations

import copy
import pickle

import pytest

from auditsvc.errors import InvalidInput
from auditsvc.records import Candidate, Submission, digest_of
from tests.contracts.sample import a_candidate, a_submission


def test_a_record_is_named_by_its_bytes_and_reads_back_the_same() -> None:
    one = a_candidate()
    assert one.digest == digest_of(one.canonical())
    again = Candidate.stored(one.canonical(), one.digest)
    assert again == one == Candidate.parse(one.canonical())
    assert again.digest == one.digest == Candidate.parse(one.canonical()).digest


def test_a_copy_with_other_fields_has_another_name() -> None:
    one = a_submission()
    assert one.digest  # taken before it is copied
    other = one.model_copy(update={"submitter": "somebody else"})
    assert other != one and other.digest != one.digest
    assert other.digest == digest_of(other.canonical())
    for same in (one.model_copy(), one.model_copy(deep=True), copy.copy(one), pickle.loads(pickle.dumps(one))):
        assert same == one and same.digest == one.digest


def test_taking_the_name_changes_nothing_else() -> None:
    one, two = a_submission(), a_submission()
    assert one.digest
    assert one == two and hash(one) == hash(two) and repr(one) == repr(two)
    assert one.model_dump() == two.model_dump()


def test_another_kind_of_record_is_refused() -> None:
    one = a_candidate()
    with pytest.raises(InvalidInput, match="expected a"):
        Submission.stored(one.canonical(), one.digest)
