"""The HTTP client: ask the gate, read and check records, approve, release, revoke, run jobs.

>>> from auditsvc.client import Client
>>> with Client("https://audit.example.org") as client:  # doctest: +SKIP
...     client.require("face-gender", "2")
GateAnswer(answer='approved', model='face-gender', version='2', ...)

``require`` raises ``NotApproved`` unless the version was approved, released and not revoked, so a pipeline that ignores
the answer still stops.  ``AsyncClient`` has the same methods for ``await``: both run the calls of
``auditsvc.client.calls``, which do no I/O.

A record is checked against its digest.  A write carries an ``Idempotency-Key``, so that sending it again after a broken
connection does nothing twice.  Errors are those of ``auditsvc.errors``, by the code in the response.  Proxies are taken
from ``HTTPS_PROXY`` and ``NO_PROXY``.

It is also a distribution of its own, ``auditsvc-client`` (``docker/client``), which needs httpx2 and pydantic, and no
torch, MLflow or web framework.
"""

from auditsvc.client.client import AsyncClient, Client
from auditsvc.client.response_models import FileVerification, GateAnswer, RevocationStatus

__all__ = ["AsyncClient", "Client", "FileVerification", "GateAnswer", "RevocationStatus"]
