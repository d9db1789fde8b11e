"""An approval or a release of a decision that a newer one supersedes is refused by the database.

A newer decision supersedes one with the same candidate, policy, terms and data.  What is in the ledger stays as it is.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op

from auditsvc.adapters.ledger.migrations import is_sqlite

revision = "0006"
down_revision = "0005"
branch_labels: str | None = None
depends_on: str | None = None

_WORDS = "superseded: a newer decision answers the same question"


def upgrade() -> None:
    """Create the trigger."""
    if is_sqlite():
        op.execute(
            "CREATE TRIGGER record_is_of_newest BEFORE INSERT ON record WHEN NEW.kind IN ('approval', 'release') "
            f"AND {_superseded()} BEGIN SELECT RAISE(ABORT, '{_WORDS}'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION auditsvc_of_newest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {_superseded()} THEN RAISE EXCEPTION '{_WORDS}' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER record_is_of_newest BEFORE INSERT ON record FOR EACH ROW "
        "WHEN (NEW.kind IN ('approval', 'release')) EXECUTE FUNCTION auditsvc_of_newest()"
    )


def _superseded() -> str:
    """Whether the ledger has a newer decision on the question of the decision that the new record names."""
    return (
        "EXISTS (SELECT 1 FROM record one JOIN subject named ON named.kind = 'decision' "  # noqa: S608 - no input
        f"AND named.subject = {_field('one', 'candidate')} || '|' || {_field('one', 'policy')} "
        "AND named.position > one.position JOIN record other ON other.digest = named.digest "
        f"WHERE one.kind = 'decision' AND one.digest = {_field('NEW', 'decision')} "
        f"AND coalesce({_field('other', 'terms')}, '') = coalesce({_field('one', 'terms')}, '') "
        f"AND {_data('other')} = {_data('one')})"
    )


def _field(row: str, name: str) -> str:
    if is_sqlite():
        return f"json_extract(CAST({row}.body AS TEXT), '$.{name}')"
    return f"(convert_from({row}.body, 'UTF8')::jsonb ->> '{name}')"


def _data(row: str) -> str:
    """The digests of a decision's data sets, in order."""
    if is_sqlite():
        return (
            "(SELECT json_group_array(json_extract(value, '$.digest')) "  # noqa: S608 - names of this module
            f"FROM json_each(CAST({row}.body AS TEXT), '$.data') WHERE type = 'object')"
        )
    return f"jsonb_path_query_array(convert_from({row}.body, 'UTF8')::jsonb, '$.data[*].digest')"
