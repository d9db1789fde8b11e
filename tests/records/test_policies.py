"""Policies compared, explained, and published as a schema that says what the reader says."""

from __future__ import annotations

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from auditsvc.gate import decide
from auditsvc.records import CheckSpec, Policy, Rule
from auditsvc.records.messages import differences, explain_decision, explain_policy
from auditsvc.records.policy import policy_schema
from auditsvc.resources import resource_dir
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import a_loss, a_policy, a_rule, a_waiver, an_evidence, losses

GATES = resource_dir("policies") / "gates"


def test_equal_policies_have_no_differences_and_others_have_some():
    assert differences(a_policy(), a_policy()) == ()
    assert differences(a_policy(), a_policy(seed=8)) == ("seed: 7 -> 8",)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [(a_rule(), a_rule(at_most=0.1), "rule loss: at_most: 0.05 -> 0.1 (laxer)"),
     (a_rule(), a_rule(at_most=0.01), "rule loss: at_most: 0.05 -> 0.01 (stricter)"),
     (a_rule(at_least=0.5), a_rule(at_least=0.6), "rule loss: at_least: 0.5 -> 0.6 (stricter)"),
     (a_rule(), a_rule(waivers="never"), "rule loss: waivers: nothing -> never"),
     (a_rule(), a_rule(below_minimum="warn"), "rule loss: below_minimum: block -> warn (laxer)")],
)  # fmt: skip
def test_a_changed_rule_is_said_to_be_stricter_or_laxer(old, new, line):
    assert differences(a_policy(old), a_policy(new)) == (line,)


def test_rules_and_checks_that_come_and_go_are_named():
    soft = a_rule(rule="soft", reading="lighting/drop.dark", severity="warn")
    lines = differences(a_policy(a_rule(), soft), a_policy(a_rule()))
    assert lines == (
        "check lighting is not run any more",
        "rule soft is gone (laxer): lighting/drop.dark on overall must be at most 0.05",
    )
    other = a_policy(checks={"accuracy": CheckSpec(version=1, parameters={"steps": 2})})
    assert differences(a_policy(), other) == ("check accuracy: steps: nothing -> 2",)


def test_a_policy_explains_every_rule_with_its_reason():
    words = "\n".join(explain_policy(a_policy(a_rule(slices="each", min_images=9, why="because of the ducks"))))
    assert "a slice of fewer than 9 images can fail, never pass, and blocks while it is unknown" in words
    assert "because of the ducks" in words


def test_a_decision_explains_what_speaks_against_it_what_was_waived_and_what_was_noted():
    policy = a_policy(
        a_rule(), a_rule(rule="other", slices="kind=a"), a_rule(rule="soft", slices="kind=b", severity="warn")
    )
    evidence = an_evidence(losses(overall=a_loss(0.2), a=a_loss(0.2), b=a_loss(0.2)))
    waivers = [a_waiver(policy, "other"), a_waiver(policy, "soft", days=-1)]
    decision = decide(policy, a_candidate(), [evidence], waivers=waivers, at=NOON)
    words = list(explain_decision(decision, policy))
    assert words[0].startswith("The gate rejects")
    assert words[1] == "0 of 3 judgements hold, under test-1, on 22 November 2026."
    order = [words.index(line) for line in ("Not met:", "Violated or unknown, and waived by a named person:",
                                            "Warnings:")]  # fmt: skip
    assert order == sorted(order)
    assert words[-1].startswith("Note: the waiver of soft by bob ended")


def test_the_published_schema_is_the_grammar_that_is_checked():
    assert json.loads((GATES / "policy.schema.json").read_text()) == policy_schema()


@pytest.mark.parametrize("path", sorted(GATES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_policies_fit_the_published_schema(path):
    fields = yaml.safe_load(path.read_text())
    assert list(Draft202012Validator(policy_schema()).iter_errors(fields)) == []
    assert list(Draft202012Validator(policy_schema()).iter_errors(fields | {"sead": 1}))


def test_a_field_that_came_later_does_not_rename_older_policies_or_evidence():
    """Optional fields are left out of the canonical bytes, so what was stored before them keeps its digest."""
    for record, added in (
        (a_policy(), {"slicing"}),
        (an_evidence(losses(overall=a_loss(0.0))), {"slicing", "lost", "won", '"p"'}),
    ):
        text = record.canonical().decode()
        assert not [name for name in added if name in text]
    assert {"family", "waivers"} <= set(Rule.model_fields)
    assert b"family" not in a_policy().canonical()
    assert Policy.parse(a_policy().canonical()) == a_policy()
