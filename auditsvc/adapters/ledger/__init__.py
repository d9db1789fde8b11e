"""The ledger in SQL: SQLite in the embedded default, PostgreSQL when it grows up.

``store`` is the ledger and its log, ``snapshot`` how it is read, ``schema`` its tables, ``people`` the two-person rule,
``tree`` the Merkle tree, ``opening`` connections, transactions and errors, ``migrations`` how the tables came to be.
"""

from auditsvc.adapters.ledger.store import SqlLedger

__all__ = ["SqlLedger"]
