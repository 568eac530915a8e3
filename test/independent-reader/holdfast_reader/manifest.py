"""Section 12: manifests, their signatures, and how they follow each other."""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from .cursor import canonical, parse_json
from .refused import MAX_OBJECTS, MAX_ORIGINS, refuse, require
from .shape import ATTEMPT, BASE32, HEX32, ID, NAME, NUMBER, exactly, integer, optional, record, rows, text

OBJECT = record(
    {
        "name": text(rf"(contents|index|keys)/{NUMBER}|packs/{NUMBER}-[{BASE32}]{{16}}"),
        "size": integer(),
        "sha256": HEX32,
    }
)
KEY_ROW = record({"name": text(rf"keys/{NUMBER}"), "attempt": ATTEMPT, "check": HEX32})
LEANS_ON = record({"host": NAME, "source": NAME, "id": ID, "manifest_sha256": HEX32})
FACTS = record(
    {
        "format": exactly(1),
        "fleet_id": text(limit=64),
        "host": NAME,
        "source": NAME,
        "engine": text("[a-z][a-z0-9-]{0,31}"),
        "id": ID,
        "attempt": ATTEMPT,
        "type": exactly("full", "incremental", "differential"),
        "objects": rows(OBJECT, MAX_OBJECTS),
        "keys": rows(KEY_ROW, 1000),
        "recipients": rows(text("age1[0-9a-z]{10,120}"), 100),
        "leans_on": rows(LEANS_ON, MAX_ORIGINS),
        "read_bytes": integer(),
        "stored_bytes": integer(),
        "total_count": integer(),
    }
)
MANIFEST = record(
    {
        "facts": FACTS,
        "agent": record({"chain": rows(text(limit=20_000), 5, least=1), "signature": text(limit=2000)}),
        "commit": record(
            {
                "fleet_id": text(limit=64),
                "committed_at": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"),
                "sequence": integer(1),
                "predecessor": optional(HEX32),
            }
        ),
        "fleet": record({"key": text("[0-9a-f]{16}"), "signature": text(limit=200)}),
    }
)


@dataclass(frozen=True)
class Manifest:
    place: str
    sha256: str
    facts: dict[str, Any]
    commit: dict[str, Any]
    committed_at: datetime
    origin_verified: bool

    @property
    def source(self) -> tuple[str, str]:
        return self.facts["host"], self.facts["source"]


def read_manifest(data: bytes, place: str, verifying_key: bytes | None) -> Manifest:
    what = f"{place}/manifest.json"
    value = MANIFEST(parse_json(data, what), what)
    require(canonical(value) == data, what, "not in canonical form")
    facts, agent, commit, fleet = value["facts"], value["agent"], value["commit"], value["fleet"]
    require(f"{facts['host']}/{facts['source']}/{facts['id']}" == place, what, "it is the manifest of another backup")
    require(facts["fleet_id"] == commit["fleet_id"], what, "agent and commit name different fleets")
    check_rows(facts, what)
    check_agent(agent, signing_bytes("agent", facts), what)
    if verifying_key is not None:
        check_fleet(fleet, signing_bytes("fleet", {"facts": facts, "agent": agent, "commit": commit}), verifying_key, what)
    try:
        committed_at = datetime.fromisoformat(commit["committed_at"])
    except ValueError:
        refuse(what, "committed_at is no time")
    return Manifest(place, hashlib.sha256(data).hexdigest(), facts, commit, committed_at, verifying_key is not None)


def check_rows(facts: dict[str, Any], what: str) -> None:
    names = {row["name"] for row in facts["objects"]}
    leaned_on = {row["id"] for row in facts["leans_on"]}
    require(len(names) == len(facts["objects"]) and len(leaned_on) == len(facts["leans_on"]), what, "a row stands twice")
    needed = {f"contents/{facts['attempt']}", f"index/{facts['attempt']}"} | {row["name"] for row in facts["keys"]}
    require(needed <= names, what, f"{sorted(needed - names)} are not among its objects")
    same_source = all((row["host"], row["source"]) == (facts["host"], facts["source"]) for row in facts["leans_on"])
    require(same_source and facts["id"] not in leaned_on, what, "it leans on itself, or on a backup of another source")
    require(facts["stored_bytes"] == sum(row["size"] for row in facts["objects"]), what, "stored_bytes is no sum of its objects")


def signing_bytes(role: str, value: Any) -> bytes:
    return f"holdfast/1 {role}\n".encode() + canonical(value)


def check_agent(agent: dict[str, Any], signed: bytes, what: str) -> None:
    try:
        chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in agent["chain"]]
        for certificate, issuer in zip(chain, chain[1:]):
            certificate.verify_directly_issued_by(issuer)
        key = chain[0].public_key()
        require(
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1),
            what,
            "the agent's key is no P-256 key",
        )
        key.verify(decode_base64(agent["signature"], what), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        refuse(what, "a signature of the agent or of its chain is wrong")
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        refuse(what, f"the agent's chain: {error}")


def check_fleet(fleet: dict[str, Any], signed: bytes, key: bytes, what: str) -> None:
    require(fleet["key"] == hashlib.sha256(key).hexdigest()[:16], what, "signed with another key than the verifying key")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(decode_base64(fleet["signature"], what), signed)
    except InvalidSignature:
        refuse(what, "the fleet's signature is wrong")


def decode_base64(value: str, what: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        refuse(what, "no base64")


def verifying_key_of(value: str) -> bytes:
    """The 32 bytes of a key that is written hfv1..."""
    require(re.fullmatch(rf"hfv1[{BASE32}]{{58}}", value) is not None, "verifying key", "not of the form hfv1...")
    bits = 0
    for letter in value[4:]:
        bits = bits << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    require(bits & 3 == 0, "verifying key", "its last bits are not zero")
    raw, check = (bits >> 2).to_bytes(36, "big")[:32], (bits >> 2).to_bytes(36, "big")[32:]
    require(hashlib.sha256(b"hfv1" + raw).digest()[:4] == check, "verifying key", "mistyped: its check bytes do not fit")
    return raw


def check_history(manifests: list[Manifest]) -> None:
    """Neighbours of one source fit each other. Retention leaves gaps; across a gap only the order of times is known."""
    by_source: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        by_source.setdefault(manifest.source, []).append(manifest)
    for own in by_source.values():
        own.sort(key=lambda manifest: manifest.commit["sequence"])
        for one in own:
            is_first = one.commit["sequence"] == 1
            require(
                (one.commit["predecessor"] is None) == is_first, one.place, "only the first backup of a source has no predecessor"
            )
            require(
                f"{one.committed_at:%Y%m%dT%H%M%SZ}" >= one.facts["id"][:16], one.place, "committed before the time in its id"
            )
        for before, after in zip(own, own[1:]):
            step = after.commit["sequence"] - before.commit["sequence"]
            require(step > 0, after.place, f"has the sequence number of {before.place}")
            if step == 1:
                require(after.commit["predecessor"] == before.sha256, after.place, f"does not follow {before.place}")
            goes_on = after.committed_at >= before.committed_at and after.facts["id"][:16] >= before.facts["id"][:16]
            require(goes_on, after.place, f"is older than {before.place}, which it follows")
