"""``data check`` says what is wrong with images and labels, and writes what to review."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from auditsvc.cli.app import app
from tests.services.line import data_in

RUNNER = CliRunner()


def test_copies_leaks_and_groups_are_listed(tmp_path):
    audit, train = data_in(tmp_path / "audit"), data_in(tmp_path / "train", seed=3)
    with np.load(audit / "images.npz") as one, np.load(train / "images.npz") as other:
        pixels, theirs = one["images"].copy(), other["images"].copy()
    theirs[5] = pixels[40]
    pixels[7] = pixels[6]
    np.savez_compressed(audit / "images.npz", images=pixels)
    np.savez_compressed(train / "images.npz", images=theirs)
    target, review = tmp_path / "census.csv", tmp_path / "review.csv"
    command = ["data", "check", str(audit), "--against", str(train), "--review", str(review)]
    told = json.loads(RUNNER.invoke(app, [*command, "--json"]).stdout)
    column = told["data"]["slices"][0]
    target.write_text(f"{column},share\nnone,1\n")
    assert told["quality"]["counts"]["copies"] == 2 and told["quality"]["shared"][str(train)] == {"images": 1}
    assert {"#6,copies,#6", "#7,copies,#6", f"#40,also in {train},#5"} <= set(review.read_text().splitlines())
    shown = RUNNER.invoke(app, ["data", "check", str(audit), "--target", str(target)])
    assert (
        "copies: 2 of 60 images, 3.3 % (" in shown.stdout and f"{column}=none: 0 images, 60 are missing" in shown.stdout
    )
    target.write_text("hair,share\nred,1\n")
    wrong = RUNNER.invoke(app, ["data", "check", str(audit), "--target", str(target)])
    assert wrong.exit_code != 0 and "no column 'hair'" in str(wrong.exception)
