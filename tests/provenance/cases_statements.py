"""Cases 24 to 36: statements and the OMS manifest."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.provenance.cases import case
from tests.provenance.forge import Forge


@case(24, "the decision in the place of the manifest", "PREDICATE_TYPE")
def _(forge: Forge) -> None:
    forge.store("oms", forge.bundle("vsa").payload)
    forge.link("oms")


@case(24, "the manifest in the place of the decision", "PREDICATE_TYPE")
def _(forge: Forge) -> None:
    forge.store("vsa", forge.bundle("oms").payload)


@case(25, "the predicate of an older model-signing", "PREDICATE_TYPE")
def _(forge: Forge) -> None:
    forge.restate("oms", lambda value: value.update(predicateType="https://model_signing/Digests/v0.1"))


@case(26, "an older statement type", "STATEMENT_TYPE")
def _(forge: Forge) -> None:
    forge.restate("oms", lambda value: value.update(_type="https://in-toto.io/Statement/v0.1"))


@case(27, "no subject", "SUBJECT")
def _(forge: Forge) -> None:
    forge.restate("oms", lambda value: value.update(subject=[]))


@case(27, "two subjects", "SUBJECT")
def _(forge: Forge) -> None:
    forge.restate("oms", lambda value: value["subject"].append({"name": "b", "digest": {"sha256": "0" * 64}}))


@case(28, "a wrong root digest", "ROOT_DIGEST")
def _(forge: Forge) -> None:
    forge.restate("oms", lambda value: value["subject"][0]["digest"].update(sha256="0" * 64))


def resources(forge: Forge, change) -> None:
    """Change the list of resources, and let the root digest follow."""

    def restate(value: dict[str, Any]) -> None:
        listed = change(value["predicate"]["resources"])
        value["predicate"]["resources"] = listed
        try:
            root = hashlib.sha256(b"".join(bytes.fromhex(item["digest"]) for item in listed)).hexdigest()
        except ValueError:
            root = "0" * 64
        value["subject"][0]["digest"]["sha256"] = root

    forge.restate("oms", restate)


@case(29, "an empty manifest of an empty folder", "EMPTY_MANIFEST")
def _(forge: Forge) -> None:
    for path in forge.release.iterdir():
        path.unlink()
    resources(forge, lambda listed: [])


@case(30, "a file listed twice", "DUP_NAME")
def _(forge: Forge) -> None:
    resources(forge, lambda listed: [listed[0], *listed])


@case(31, "files out of order", "NOT_SORTED")
def _(forge: Forge) -> None:
    resources(forge, lambda listed: listed[::-1])


for _title, _bend in {
    "upper case": lambda item: item | {"digest": item["digest"].upper()},
    "short": lambda item: item | {"digest": item["digest"][:62]},
    "md5": lambda item: item | {"algorithm": "md5", "digest": "0" * 32},
    "a newline": lambda item: item | {"digest": item["digest"] + "\n"},
}.items():

    @case(32, f"a digest in another form: {_title}", "DIGEST_FORM")
    def _(forge: Forge, bend=_bend) -> None:
        resources(forge, lambda listed: [bend(listed[0]), *listed[1:]])


for _name in ("../x", "/x", "a/./b", "a//b", "a\\b", "a\0b", "e\u0301", "", ".", "a/", "a\nb", "x" * 2000):

    @case(33, f"the file name {_name[:20]!r}", "NAME_BAD")
    def _(forge: Forge, name: str = _name) -> None:
        resources(forge, lambda listed: [listed[0] | {"name": name}, *listed[1:]])


@case(34, "the weights are to be ignored", "IGNORE_PATHS")
def _(forge: Forge) -> None:
    forge.predicate("oms", lambda p: p["serialization"].update(ignore_paths=["weights.safetensors"]))


@case(35, "symbolic links are allowed", "SERIALIZATION")
def _(forge: Forge) -> None:
    forge.predicate("oms", lambda p: p["serialization"].update(allow_symlinks=True))


for _change in ({"method": "shards", "shard_size": 1000}, {"hash_type": "blake3"}, {"hash_type": "rot13"}):

    @case(36, f"a serialization with {_change}", "SERIALIZATION")
    def _(forge: Forge, change=_change) -> None:
        forge.predicate("oms", lambda p: p["serialization"].update(change))
