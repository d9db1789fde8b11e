"""The alias goes back to a release that still verifies, and to no other."""

from __future__ import annotations

import dataclasses
import datetime
import functools

import pytest

from auditsvc.compliance.assessment.evidence_status import evidence_status
from auditsvc.errors import Conflict, NotApproved, NotFound
from auditsvc.records import AliasMove, Recipe, Release, Rollback, Submission
from auditsvc.services.candidates import prune_candidate, submit
from auditsvc.services.registry import ALIAS, reconcile
from auditsvc.services.release import release_folder, revoke
from auditsvc.services.revocation import roll_back
from tests.compliance import sample
from tests.fakes import NOON, FixedClock
from tests.services.test_line import released


@pytest.fixture
def twice(line, folders):
    """Two released versions; the second one carries the alias."""
    ctx, parent, first, dataset = line
    released(line)
    calibration = ctx.datasets.open(folders["calibration"])
    second = prune_candidate(ctx, parent, Recipe(method="magnitude-global", targets={"sparsity": 0.05}), calibration)
    submit(ctx, second, "1", "sue")
    released((ctx, parent, second, dataset))
    versions = [ctx.ledger.find(Submission, one.digest)[0].version for one in (first, second)]
    assert ctx.registry.aliased("brightness", ALIAS) == versions[1]
    return ctx, *versions


def back(ctx, version=None, **how):
    return roll_back(ctx, "brightness", version, "it fails in the field", "ann", "bob", **how)


def test_the_alias_goes_back_to_the_release_before_and_the_ledger_says_why(twice):
    ctx, first, second = twice
    made = back(ctx)
    assert (made.found, made.version, made.rehearsal) == (second, first, False)
    assert ctx.registry.aliased("brightness", ALIAS) == first
    assert ctx.ledger.find(Rollback, "brightness") == (made,)
    assert reconcile(ctx, {}, put_back=True)[1] == ()
    assert back(ctx, second).version == second


class Killed(BaseException):
    """The process is gone: nothing in the code may catch it."""


@dataclasses.dataclass
class Dies:
    """A port whose method with this name is the last thing that the process does, or would have done next."""

    port: object
    method: str
    call: int
    after: bool

    def __getattr__(self, name):
        found = getattr(self.port, name)
        return functools.partial(self._die, found) if name == self.method else found

    def _die(self, found, *args, **more):
        self.call -= 1
        if self.call == 0 and not self.after:
            raise Killed
        found(*args, **more)
        if self.call == 0:
            raise Killed


def test_a_rollback_that_was_killed_anywhere_is_finished_by_the_next_round_or_by_asking_again(twice):
    ctx, first, second = twice
    points = [("ledger", "append", 1), ("ledger", "append", 2), ("registry", "move_alias", 1)]
    kills = [(*point, after) for point in points for after in (False, True)]
    for hour, (port, method, call, after) in enumerate(kills):
        now = dataclasses.replace(ctx, clock=FixedClock(NOON + datetime.timedelta(hours=2 * hour)))
        with pytest.raises(Killed):
            back(dataclasses.replace(now, **{port: Dies(getattr(ctx, port), method, call, after)}), first)
        later = dataclasses.replace(ctx, clock=FixedClock(NOON + datetime.timedelta(hours=2 * hour + 1)))
        reconcile(later, {}, put_back=True)
        recorded = ctx.ledger.find(AliasMove, "brightness")[-1].version
        assert ctx.registry.aliased("brightness", ALIAS) == recorded
        assert recorded == (second if (port, call) == ("ledger", 1) or (call, after) == (2, False) else first)
        if recorded == second:
            back(later, first)
        assert ctx.registry.aliased("brightness", ALIAS) == first
        back(later, second)


def test_a_rehearsal_moves_nothing_and_is_timed(twice):
    ctx, first, second = twice
    made = back(ctx, rehearse=True)
    assert (made.version, made.rehearsal) == (first, True) and made.took_ms > 0
    assert ctx.registry.aliased("brightness", ALIAS) == second


def test_who_asks_can_not_confirm(twice):
    with pytest.raises(Conflict, match="can't confirm it"):
        roll_back(twice[0], "brightness", None, "why", "ann", "Ann")
    with pytest.raises(ValueError, match="can't confirm it"):
        Rollback.model_validate(back(twice[0], rehearse=True).model_dump() | {"confirmed_by": "ann"})


def test_a_revoked_or_unknown_version_is_no_way_back(twice):
    ctx, first, second = twice
    with pytest.raises(NotFound, match="version 99"):
        back(ctx, "99")
    with pytest.raises(Conflict, match="already"):
        back(ctx, second)
    revoke(ctx, ctx.ledger.find(Release, f"brightness/{first}")[-1], "wrong data", "ann", "bob")
    with pytest.raises(NotFound, match="no other version"):
        back(ctx)
    assert ctx.registry.aliased("brightness", ALIAS) == second


def test_a_release_that_was_tampered_with_is_no_way_back(twice):
    ctx, first, second = twice
    (submission,) = ctx.ledger.find(Submission, f"brightness/{first}")
    weights = release_folder(ctx, submission) / "release" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(bytes(data))
    with pytest.raises(NotApproved, match="does not verify"):
        back(ctx)
    assert ctx.registry.aliased("brightness", ALIAS) == second


def test_a_way_back_is_evidence_for_a_year(twice):
    ctx, first, _ = twice
    made = back(ctx, rehearse=True)
    paper = sample.paperwork(sample.released())
    assert evidence_status("ops.rollback", paper).status == "missing"
    today = dataclasses.replace(paper, rollbacks=(made.model_copy(update={"at": paper.at}),))
    assert evidence_status("ops.rollback", today).status == "supported"
    assert f"rollback to version {first} rehearsed" in evidence_status("ops.rollback", today).message
    old = made.model_copy(update={"at": paper.at.replace(year=paper.at.year - 2)})
    assert evidence_status("ops.rollback", dataclasses.replace(paper, rollbacks=(old,))).status == "stale"
