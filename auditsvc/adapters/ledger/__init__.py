"""The ledger in SQL: SQLite in the embedded default, PostgreSQL for several machines.

``store`` has the ledger, its Merkle log and the separation of duties; ``schema`` the tables; ``migrations`` the
revisions that create them.
"""

from auditsvc.adapters.ledger.store import SqlLedger

__all__ = ["SqlLedger"]
