"""Who must consent: enough people, and of each role somebody of its own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from auditsvc.records.decision import missing_consent
from tests.gate.sample import a_policy

ROLES = {"safety": ("sam", "mia"), "data-protection": ("dora", "mia")}


@pytest.mark.parametrize(
    ("people", "lacking"),
    [
        (("sam", "dora"), ()),
        (("SAM", "mia"), ()),
        (("ann", "mia"), ("one person can't approve in two roles (safety, data-protection)",)),
        (("ann", "sam"), ("no approval as data-protection",)),
        (("mia",), ("1 of 2 people approved it",)),
        (("mia", "MIA"), ("1 of 2 people approved it",)),
    ],
)
def test_every_role_needs_a_person_of_its_own(people, lacking):
    assert missing_consent(a_policy(roles=ROLES), people) == lacking


def test_more_roles_than_approvals_can_never_be_given():
    with pytest.raises(ValidationError, match="as many approvals"):
        a_policy(roles=ROLES, approvals=1)


def test_a_role_without_names_is_refused():
    with pytest.raises(ValidationError):
        a_policy(roles={"safety": ()})
