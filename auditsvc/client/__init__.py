"""The service from Python: ask the gate, read and check records, act under your own name.

>>> from auditsvc.client import Client
>>> Client().require("face-gender", "2")  # doctest: +SKIP
GateAnswer(answer='approved', model='face-gender', version='2', ...)

``require`` raises ``NotApproved`` unless the version was approved, released and not revoked, so that a pipeline that
forgets to look at the answer stops all the same.  ``AsyncClient`` has the same methods for ``await``.

Every record that is read is checked against its digest.  A write carries an ``Idempotency-Key``, so that it is safe to
send it again when a connection breaks.  Errors are those of ``auditsvc.errors``, by the code that the service gave.
"""

from auditsvc.client.async_client import AsyncClient
from auditsvc.client.client import Client
from auditsvc.client.response_models import Recall, Verified

__all__ = ["AsyncClient", "Client", "Recall", "Verified"]
