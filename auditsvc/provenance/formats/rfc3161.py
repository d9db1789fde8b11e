"""RFC 3161 timestamps over signatures: proof of time from a third party, neither the signer nor the log.

Needs the package ``rfc3161-client`` (the extra ``timestamp``); it reads strict DER only.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import Moment


def check_timestamp(bundle: Bundle, authorities: Sequence[str]) -> Moment:
    """When a trusted authority saw the signature, at the latest.

    ``authorities`` are certificate chains in PEM, the authority's own first and its root last.

    Raises:
        Fault: ``TIMESTAMP``.
    """
    if not bundle.timestamps:
        raise Fault("TIMESTAMP", "no timestamp, but one is required")
    return time_of(bundle.timestamps, bundle.signature, authorities)


def time_of(stamps: Sequence[bytes], data: bytes, authorities: Sequence[str]) -> Moment:
    """The time at which one of these authorities saw these bytes, by the first timestamp that verifies.

    Raises:
        Fault: ``TIMESTAMP``.
    """
    try:
        from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound, load_pem_x509_certificates
        from cryptography.x509.oid import ExtendedKeyUsageOID
        from rfc3161_client import VerifierBuilder, decode_timestamp_response
        from rfc3161_client.errors import VerificationError
    except ImportError as error:
        raise Fault("TIMESTAMP", "timestamps can't be checked; pip install rfc3161-client") from error
    why = "no authority is trusted"
    for stamp in stamps:
        for pem in authorities:
            try:
                leaf, *others = load_pem_x509_certificates(pem.encode())
                usage = leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value
                if list(usage) != [ExtendedKeyUsageOID.TIME_STAMPING]:
                    raise ValueError("the authority's certificate is not for time stamping alone")
                builder = VerifierBuilder().tsa_certificate(leaf)
                for certificate in others[:-1]:
                    builder = builder.add_intermediate_certificate(certificate)
                response = decode_timestamp_response(stamp)
                root = others[-1] if others else leaf
                builder.add_root_certificate(root).build().verify_message(response, data)
                time: Moment = response.tst_info.gen_time
            except (VerificationError, ExtensionNotFound, ValueError) as error:
                why = str(error)
                continue
            if leaf.not_valid_before_utc <= time <= leaf.not_valid_after_utc:
                return time
            why = "the timestamp was made outside the validity of the authority's certificate"
    raise Fault("TIMESTAMP", f"no timestamp by a trusted authority: {why[:200]}")
