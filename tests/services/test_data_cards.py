"""Cards, Croissant, consents: what is recorded of a data set, and what follows from it."""

from __future__ import annotations

import datetime
import json

import pytest

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.records import Decision
from auditsvc.records.data_card import Annotation, CardFields, Collection, Consent, DataCard
from auditsvc.services.data_cards import (
    as_croissant,
    card_from,
    card_of,
    consents_for,
    croissant_text,
    data_facts,
    record_consents,
    write_card,
)
from auditsvc.services.holdout import index_images, record_images_seen, require_consent
from auditsvc.services.objections import open_objections
from auditsvc.services.terms import data_uses
from tests.contracts.sample import a_candidate, a_decision, a_parent
from tests.services.line import data_in, ports_in

FULL = CardFields(
    collection=Collection(where="Bogotá", when="2026", by="the clinic", devices=("Pixel 8", "Pixel 9")),
    annotation=Annotation(
        by="two nurses", annotators=2, agreement=0.8, measure="Cohen's kappa", cost_per_label=0.5, currency="EUR"
    ),
    gaps=("no children",), intended_use="triage", forbidden_use="insurance", retention="ten years", personal="faces",
)  # fmt: skip


@pytest.fixture
def ctx(tmp_path):
    made = ports_in(tmp_path)
    made.ledger.append(a_parent(), a_candidate(), actor="test")
    return made


@pytest.fixture
def dataset(ctx, tmp_path):
    folder = data_in(tmp_path / "data")
    described = folder / "dataset.yaml"
    table = folder / "metadata.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{rows[0]},patient", *(f"{row},p{n // 2}" for n, row in enumerate(rows[1:]))]))
    described.write_text(described.read_text() + "\ncluster: patient\n")
    return ctx.datasets.open(folder)


def test_the_newest_card_counts_and_none_is_an_error_with_what_to_do(ctx, dataset):
    with pytest.raises(NotFound, match="no card; write one with `auditsvc data card"):
        card_of(ctx, dataset.ref.digest)
    write_card(ctx, dataset, CardFields(), "ann")
    ctx.clock.forward(minutes=1)
    made = write_card(ctx, dataset, FULL, "bob")
    found = card_of(ctx, dataset.ref.digest)
    assert found == made and (found.person, found.licence, found.images) == ("bob", dataset.ref.licence, 60)
    assert DataCard.parse(made.canonical()) == made


def test_croissant_goes_out_and_comes_back(ctx, dataset, tmp_path):
    path = tmp_path / "card.json"
    path.write_text(croissant_text(write_card(ctx, dataset, FULL, "ann")))
    assert card_from(path) == FULL
    path.write_text(json.dumps({"@context": {}, "rai:dataCollection": "by hand", "rai:dataBiases": ["only adults"]}))
    foreign = card_from(path)
    assert (foreign.collection, foreign.gaps) == (Collection(where="by hand"), ("only adults",))
    for text, words in (("gapz: [a]", "gaps"), ("- a", "has faults"), ("a: [", "can't be read")):
        path.write_text(text)
        with pytest.raises(InvalidInput, match="card") as refused:
            card_from(path)
        assert words in f"{refused.value} {refused.value.reasons}"


def test_the_croissant_file_is_valid_for_its_own_library(ctx, dataset):
    mlcroissant = pytest.importorskip("mlcroissant")
    made = as_croissant(write_card(ctx, dataset, FULL, "ann"))
    found = mlcroissant.Dataset(jsonld=made).metadata
    assert not found.ctx.issues.errors and found.name == dataset.ref.name
    assert found.data_limitations == ["no children", "Not for: insurance"]


def test_what_made_a_model_is_known_with_its_card_or_without(ctx, dataset, tmp_path):
    train = ctx.datasets.open(data_in(tmp_path / "train", seed=3))
    record_images_seen(ctx, a_candidate().parent, train, "training")
    (use,) = data_uses(ctx.ledger, a_candidate(), ctx.clock.now())
    assert (use.purpose, use.card) == ("training of the parent", None)
    bare = data_facts(ctx, a_candidate(), dataset)
    card = write_card(ctx, train, FULL, "ann")
    (use,) = data_uses(ctx.ledger, a_candidate(), ctx.clock.now())
    assert use.card == card
    known = data_facts(ctx, a_candidate(), dataset)
    assert a_candidate().recipe and (bare.undocumented, known.undocumented, known.leaked) == (1, 0, 0)
    assert "declares a `cluster`" in known.subjects
    assert len(known.licences) == len(bare.licences) + 1


def test_a_withdrawal_refuses_the_images_and_blocks_what_rests_on_them(ctx, dataset):
    index_images(ctx, dataset)
    decision = a_decision()
    data = [{"name": dataset.ref.name, "digest": dataset.ref.digest, "images": 60}]
    decision = Decision.model_validate(
        decision.model_dump() | {"data": data, "outcome": "approved", "candidate": a_candidate().digest}
    )
    ctx.ledger.append(decision, actor="test")
    of = consents_for(dataset, ctx, [], ["patient=p3"])
    nothing = record_consents(ctx, of, "ann", basis="form of 2026")
    require_consent(ctx, dataset)
    ctx.clock.forward(minutes=1)
    found = record_consents(ctx, of, "ann", basis="letter of May", withdrawn=True)
    assert nothing.datasets == {} and found.datasets == {dataset.ref.name: 2}
    assert found.objected == (decision.digest,)
    (objection,) = open_objections(ctx.ledger, decision)
    assert "subject:patient=p3" in objection.reason and objection.person == "ann"
    with pytest.raises(InvalidInput, match=r"the consent for 2 of 60 images .* was withdrawn .*#6, #7"):
        require_consent(ctx, dataset)
    ctx.clock.forward(minutes=1)
    record_consents(ctx, of, "ann", basis="a new form")
    require_consent(ctx, dataset)


def test_a_consent_ends_with_its_last_day_and_one_image_may_have_its_own(ctx, dataset):
    of = consents_for(dataset, ctx, [dataset.name_of(5)], [])
    record_consents(ctx, of, "ann", basis="form", until=ctx.clock.now().date())
    require_consent(ctx, dataset)
    ctx.clock.forward(minutes=60 * 24 * 2)
    with pytest.raises(InvalidInput, match="1 of 60 images"):
        require_consent(ctx, dataset)
    assert next(iter(ctx.ledger.all(Consent))).until < datetime.date(2100, 1, 1)


def test_licences_of_single_images_are_those_of_the_data_set_together(ctx, tmp_path):
    folder = data_in(tmp_path / "mixed")
    table, described = folder / "metadata.csv", folder / "dataset.yaml"
    rows = table.read_text().splitlines()
    given = ["MIT", "", "CC0-1.0 OR MIT"]
    table.write_text("\n".join([f"{rows[0]},terms", *(f"{row},{given[n % 3]}" for n, row in enumerate(rows[1:]))]))
    text = "\n".join(line for line in described.read_text().splitlines() if not line.startswith("licence"))
    described.write_text(f"{text}\nlicence: CC-BY-NC-4.0\nlicence_column: terms\n")
    assert ctx.datasets.open(folder).ref.licence == "CC-BY-NC-4.0 AND (CC0-1.0 OR MIT) AND MIT"


@pytest.mark.parametrize(
    ("images", "subjects", "error", "words"),
    [([], [], InvalidInput, "name images"), ([], ["patient=none"], InvalidInput, "name images, or subjects"),
     (["no.png"], [], NotFound, "no image 'no.png'")],
)  # fmt: skip
def test_what_the_data_set_does_not_have_is_refused(ctx, dataset, images, subjects, error, words):
    with pytest.raises(error, match=words):
        consents_for(dataset, ctx, images, subjects)
