"""Terms that the report uses, in plain words."""

from __future__ import annotations

from auditsvc.compliance.report.figures import Fact

_WORDS = {
    "Candidate": "The pruned model that asks for release: one exact set of files, named by its digest.",
    "Condition": "A change made to every image before both models see it, such as less light or a hidden part.",
    "Digest": "A fingerprint of a file or record. If one bit changes, so does the digest.",
    "Evidence": "The stored result of one run of one check, with all that is needed to run it again.",
    "Interval": "The range in which the true value is expected, given how few or many images were tested. "
    "Rules are judged by its worse end.",
    "Met, violated, unknown": "A rule holds even at the worse end of the interval; it does not; or too little is known "
    "to say. Unknown blocks a release as violated does.",
    "Parent": "The model before pruning. Every image was shown to both models.",
    "Points": "Percentage points: from 95 % to 92 % is a loss of 3 points.",
    "Pruning": "Removing weights from a model so that it is smaller or faster.",
    "Slice, group": "A named part of the test images, for instance all photos of women.",
    "Waiver": "A named person takes one rule that does not hold upon themselves, with a reason and an end date. "
    "It is not a pass.",
    "Watermark": "A hidden mark in the weights that lets the owner recognise the model. It says nothing about quality.",
}

GLOSSARY: tuple[Fact, ...] = tuple(Fact(label=term, value=meaning) for term, meaning in _WORDS.items())
"""In alphabetical order."""
