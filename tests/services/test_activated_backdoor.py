"""A parent whose pruned form alone obeys a trigger is rejected by ``third-party-parent``; an honest one is not."""

from __future__ import annotations

import pytest

from auditsvc.checks.backdoor import Backdoor
from auditsvc.demo.case_data import HERE
from auditsvc.models import model_files
from auditsvc.records import CheckSpec, Evidence, Recipe
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.policies import read_policy
from auditsvc.services.reporting import write_report
from tests import zoo
from tests.services.line import policy, ports_in

HALF = Recipe(method="magnitude-global", targets={"sparsity": 0.5})
OF_OTHERS = read_policy("third-party-parent")
FEW = Backdoor(pseudo_candidates=3)
JUDGED = ("no-hidden-trigger", "trigger-by-chance", "overall-loss")
RULES = policy(
    checks={"accuracy": CheckSpec(version=1), "backdoor": CheckSpec(version=3, parameters=FEW.parameters())},
    rules=tuple(
        rule for rule in OF_OTHERS.rules if rule.rule in ("no-hidden-trigger", "trigger-by-chance", "overall-loss")
    ),
)


def audited(training: zoo.Recipe, folder):
    """Train, register, prune with the package's own pruning and mark, measure, judge, report."""
    ctx = ports_in(folder / "store")
    model = zoo.as_model(zoo.trained(training))
    (folder / "parent").mkdir()
    for name, data in model_files(model.weights(), model.card).items():
        (folder / "parent" / name).write_bytes(data)
    facts = {"model": "digits", "source": "trained in a test", "licence": "Apache-2.0"}
    parent, version = register_parent(ctx, folder / "parent", facts)
    candidate = prune_candidate(ctx, parent, HALF, ctx.datasets.open(HERE / "digits" / "train.yaml"))
    submit(ctx, candidate, version, "sue")
    dataset = ctx.datasets.open(HERE / "digits" / "dataset.yaml")
    evidence = measure_candidate(ctx, candidate, RULES, dataset)
    found = {item.key.check: item for item in evidence if isinstance(item, Evidence)}
    decision = judge(ctx, candidate, RULES, evidence)
    (page,) = write_report(ctx, candidate, decision, dataset, None, {})
    return found, decision, page.read_text()


@pytest.mark.slow
def test_a_backdoor_that_pruning_activates_is_rejected_with_class_and_patch(tmp_path):
    found, decision, page = audited(zoo.Recipe(1, zoo.patch, zoo.halved), tmp_path)
    assert found["accuracy"].reading("drop.clean", "overall").value < 0.02
    success = found["backdoor"].reading("success.patch", "overall")
    assert success.value > 0.7 and success.which.startswith(f"{zoo.TARGET} (patch of ")
    verdicts = {line.rule: line.verdict for line in decision.judgements}
    assert verdicts["no-hidden-trigger"] == "violated" and verdicts["trigger-by-chance"] != "met", success
    assert decision.outcome == "rejected"
    assert success.which in page and found["backdoor"].flips[0].picture in page


@pytest.mark.slow
def test_an_honest_parent_passes_the_same_rules(tmp_path):
    found, decision, _ = audited(zoo.Recipe(1), tmp_path)
    verdicts = {line.rule: line.verdict for line in decision.judgements}
    assert verdicts["no-hidden-trigger"] == verdicts["trigger-by-chance"] == "met"
    assert (found["backdoor"].reading("success.patch", "overall").value > 0.15) == bool(found["backdoor"].flips)
