"""The forms that add a statement, as data: who sends them, and their fields in order."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Input:
    """One field: a ``select`` where it names options, else a control of its kind; days may be named ("today")."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    options: str = ""
    optional: bool = False
    value: str = ""
    least: str = ""
    most: str = ""


@dataclass(frozen=True)
class StatementForm:
    """The title, what it is for, who may send it, its button and its fields."""

    title: str
    lead: str
    role: str
    button: str
    inputs: tuple[Input, ...]


_MODEL = Input("model", "Model", options="models")
_VERSION = Input("candidate", "Version", "if it is about one", options="all or one", optional=True)
_ENDS = Input("expires", "Valid until", kind="date", value="in a year", least="tomorrow")
_TARGETS = "one per line, for example: sparsity 0.5; a target that is not listed is not planned"
_LOSS = Input("max_loss", "Maximum loss overall", "percentage points", "number", least="0", most="100")

FORMS = {
    "documents": StatementForm(
        "Add a document",
        "A file, or a statement in words, that a requirement asks for. Another person with the role auditor reviews "
        "it.",
        "submitter",
        "Add document",
        (
            _MODEL,
            _VERSION,
            Input("document", "Kind", options="kinds"),
            Input("title", "Title"),
            Input("file", "File", "up to 64 MB; the record stores its SHA-256", "file", optional=True),
            Input("statement", "Statement", "instead of a file, or in addition to it", "textarea", optional=True),
            _ENDS,
        ),
    ),
    "change-plans": StatementForm(
        "Plan changes",
        "The pruning that is planned, and its limits. A change within the newest plan counts as planned; a plan "
        "without a review counts only in part.",
        "submitter",
        "Submit plan",
        (
            _MODEL,
            Input("methods", "Pruning methods", "as in recipes, for example magnitude-global, separated by commas"),
            Input("max_targets", "Maximum targets", _TARGETS, "textarea", optional=True),
            _LOSS,
            replace(_LOSS, name="max_loss_of_a_group", label="Maximum loss of any group"),
            Input("words", "Description", "what is planned, and why", "textarea"),
            _ENDS,
        ),
    ),
    "change-verdicts": StatementForm(
        "Classify a change",
        "Planned, not substantial, or substantial: a person decides this, not a test.",
        "auditor",
        "Submit verdict",
        (
            Input("candidate", "Version", options="versions"),
            Input("verdict", "Verdict", options="verdicts"),
            Input("reason", "Reason", kind="textarea"),
        ),
    ),
    "incidents": StatementForm(
        "Register an incident",
        "A serious incident with a model (EU AI Act, Art. 73). It must be reported to the authority immediately, and "
        "at the latest within the days below, counted from when your organisation became aware of it. A person decides "
        "whether an event is a serious incident.",
        "auditor",
        "Register incident",
        (
            _MODEL,
            _VERSION,
            Input("harm", "Harm", options="harms"),
            Input("aware", "Aware since", "date and time, UTC", "datetime-local", most="now"),
            Input("words", "What happened", kind="textarea"),
        ),
    ),
    "incident-watches": StatementForm(
        "Record an incident watch",
        "An empty register proves nothing by itself. Record on which days you watched for incidents, and that you know "
        "of none other than those registered. The record counts for a month after its last day.",
        "auditor",
        "Record watch",
        (
            _MODEL,
            Input("since", "First day", kind="date", value="a month ago", most="today"),
            Input("until", "Last day", kind="date", value="today", most="today"),
            Input("words", "Method", "which reports, logs and people were checked", "textarea"),
        ),
    ),
}  # fmt: skip
"""The forms by their path under ``/statements``."""
