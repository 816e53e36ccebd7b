"""Verifying by a restore, at the prompt: one backup after the other, whatever becomes of the one before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from haops.cli import output as shapes
from haops.cli.context import lifecycle
from haops.errors import BadInput, EnvironmentTrouble, HaopsError, Interrupted

if TYPE_CHECKING:
    from haops.backup.catalogue import Entry
    from haops.backup.keys import Identities
    from haops.backup.repository import Repository
    from haops.compare.proof import Proof


def prove_one(repository: Repository, entry: Entry, identities: Identities) -> Proof:
    """Restore one backup for a proof, and keep what came of it; a failure of one keeps no other from its turn."""
    from datetime import UTC, datetime

    from haops.backup.keys import NoKey
    from haops.backup.manifest import Checked
    from haops.backup.storage import StorageTrouble
    from haops.compare.proof import prove

    def say(text: str) -> None:
        shapes.err().print(text, markup=False)

    began = time.monotonic()
    try:
        proof = prove(lifecycle(), repository, entry.id, identities, say)
    except NoKey as error:  # the others have their turn
        proof = _unproved(entry, error, time.monotonic() - began)
    except (BadInput, Interrupted):
        raise
    except HaopsError as error:
        proof = _unproved(entry, error, time.monotonic() - began)
    if proof.ok is not None:
        try:
            repository.note_checked(entry.id, Checked("restore", datetime.now(UTC), proof.ok))
        except StorageTrouble as error:
            say(f"{entry.id}: that it was verified could not be kept: {error.message}")
    return proof


def _unproved(entry: Entry, error: HaopsError, took_s: float) -> Proof:
    """A restore that came to nothing; what this machine or the asker lacks says nothing of the backup."""
    from haops.backup.keys import NoKey
    from haops.compare.proof import Proof

    return Proof(
        backup=entry.id,
        cluster="",
        ok=None if isinstance(error, EnvironmentTrouble | NoKey) else False,
        took_s=took_s,
        restore_s=0.0,
        records=0,
        differences=0,
        words=(str(error),),
    )
