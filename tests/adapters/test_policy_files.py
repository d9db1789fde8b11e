"""Policies are read whole: every fault with its line, nothing filled in silently, nothing that can't fail."""

from __future__ import annotations

import pytest
import yaml

from auditsvc.errors import InvalidPolicy, NotFound
from auditsvc.resources import resource_dir
from auditsvc.services.policies import parse_policy, read_policy, slice_faults

TEXT = """\
policy: small
version: 1
why: a test
seed: 7
checks:
  accuracy: {version: 1}
rules:
  - rule: loss
    reading: accuracy/drop.clean
    at_most: 0.01
    why: a test
"""


def reasons(text):
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(text, "p.yaml")
    return caught.value.reasons or (str(caught.value),)


def changed(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


def test_a_policy_is_complete_when_it_is_read():
    text = changed("accuracy: {version: 1}", "occlusion: {version: 1}").replace(
        "accuracy/drop.clean", "occlusion/drop.*"
    )
    policy = parse_policy(text, "p.yaml")
    assert policy.checks["occlusion"].parameters["grey"] == 0.5
    spelled = text.replace("{version: 1}", f"{{version: 1, parameters: {policy.checks['occlusion'].parameters}}}")
    assert parse_policy(spelled, "p.yaml").digest == policy.digest


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [("seed: 7\n", "", "line 1: seed: Field required"),
     ("seed: 7", "seed: -1", "line 4: seed: "),
     ("version: 1\n", "version: 0\n", "line 2: version: "),
     ("why: a test\nseed", "why: ''\nseed", "line 3: why: "),
     ("seed: 7", "sead: 7", "line 4: sead: Extra inputs are not permitted; did you mean 'seed'?"),
     ("seed: 7", "seed: 7\nseed: 8", "line 5: 'seed' is given twice"),
     ("    at_most: 0.01\n", "    at_most: 0.01\n    at_most: 0.9\n", "line 11: 'at_most' is given twice"),
     ("    at_most: 0.01\n", "    at_moist: 0.01\n", "line 10: rules.0.at_moist: Extra inputs are not permitted; "
      "did you mean 'at_most'?"),
     ("    at_most: 0.01\n", "", "line 8: rules.0: Value error, rule 'loss' needs exactly one of at_least and at_most"),
     ("    at_most: 0.01\n", "    at_most: 0.01\n    at_least: 0\n", "line 8: rules.0: Value error"),
     ("at_most: 0.01", "at_most: .nan", "line 10: rules.0.at_most: "),
     ("at_most: 0.01", "at_most: 1 %", "line 10: rules.0.at_most: "),
     ("at_most: 0.01", "at_most: 5", "line 9: rule loss: at most 5 always holds"),
     ("drop.clean\n    at_most: 0.01", "score.clean\n    at_least: 0", "line 9: rule loss: at least 0 always holds"),
     ("drop.clean", "drop.claen", "line 9: rule loss: accuracy gives no 'drop.claen'; did you mean 'drop.clean'?"),
     ("drop.clean", "drop.dim*", "line 9: rule loss: accuracy gives no 'drop.dim*'"),
     ("accuracy/drop", "acuracy/drop", "line 9: rule loss: the policy runs no check 'acuracy'; it runs accuracy"),
     ("accuracy/drop", "accuracy drop", "line 9: rules.0.reading: "),
     ("accuracy: {version: 1}", "accuracy: {version: 9}", "line 6: checks.accuracy: the policy pins"),
     ("accuracy: {version: 1}", "acuracy: {version: 1}", "line 6: checks.acuracy: no check named 'acuracy'"),
     ("accuracy: {version: 1}", "accuracy: {version: 1, parameters: {steps: 3}}", "line 6: checks.accuracy: steps"),
     ("accuracy: {version: 1}", "accuracy: {}", "line 6: checks.accuracy.version: Field required"),
     ("accuracy: {version: 1}", "accuracy: {version: 1}\n  lighting: {version: 1}",
      "line 7: checks.lighting: no rule uses it"),
     ("why: a test\n", "why: a test\n    severity: warn\n", "approve anything"),
     ("why: a test\n", "why: a test\n    slices: []\n", "names no slice"),
     ("seed: 7", "seed: 7\nslicing: {image: {mood: 4}}", "line 5: slicing.image: nothing measures 'mood'"),
     ("seed: 7", "seed: 7\nslicing: {depth: 9}", "line 5: slicing.depth: "),
     ("  - rule: loss", "  - rule: loss\n    reading: accuracy/drop.clean\n    at_most: 0.1\n    why: a test\n"
      "  - rule: loss", "rules with the same name: loss")],
)  # fmt: skip
def test_a_fault_is_told_with_its_line(old, new, fault):
    text = TEXT.replace(old, new) if "severity" not in new and "slices: []" not in new else TEXT + new.split("\n", 1)[1]
    assert any(fault in reason for reason in reasons(text)), reasons(text)


def test_all_faults_are_told_at_once_in_the_order_of_the_file():
    text = changed("seed: 7", "seed: -1").replace("accuracy: {version: 1}", "accuracy: {version: 9}")
    lines = [int(reason.split(":")[0].removeprefix("line ")) for reason in reasons(text.replace("0.01", "much"))]
    assert lines == [4, 6, 10]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "just words", "- a\n- list\n", "checks: [", "a: 1\n---\nb: 2\n", "\t"]
)
def test_what_is_no_policy_is_refused(text):
    assert reasons(text)


def test_aliases_are_refused_before_they_unfold():
    assert reasons("a: &a [1, 2]\nb: *a\n") == ("line 2: the alias *a; write it out",)
    assert reasons("a: &a [*a]\n") == ("line 1: the alias *a; write it out",)


def test_a_file_is_found_by_path_and_a_shipped_one_by_name(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    assert read_policy(str(path)).policy == "small"
    assert read_policy("standard").policy == "standard"
    for name in ("nothing", "../gates/standard", str(tmp_path)):
        with pytest.raises(NotFound, match=r"standard|no policy file"):
            read_policy(name)


def test_a_policy_that_changes_by_a_character_is_another_one():
    assert parse_policy(TEXT, "p").digest == parse_policy("# a comment\n" + TEXT, "p").digest
    assert parse_policy(changed("0.01", "0.011"), "p").digest != parse_policy(TEXT, "p").digest


@pytest.mark.parametrize(
    "path", sorted((resource_dir("policies") / "gates").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_policy_is_valid_and_gives_a_reason_for_every_number(path):
    policy = read_policy(str(path))
    assert policy.policy == path.stem
    assert all(len(rule.why) > 20 for rule in policy.rules)
    assert yaml.safe_load(path.read_text())["policy"] == path.stem


def test_slices_that_the_data_set_does_not_have_are_told_before_anything_is_measured():
    policy = parse_policy(TEXT + "    slices: [gender=f, 'age=*', each, overall]\n", "p")
    (fault,) = slice_faults(policy, ("overall", "gender=F", "age=65+"))
    assert fault == (
        "rule loss: the data set has no slice 'gender=f'; did you mean 'gender=F'?; it has overall, gender=F, age=65+"
    )
