"""What a restore that was cut off had done: kept on disk, so that `--resume` goes on and `status` tells.

`restore.json` in a cluster's folder, from before the first change until the restore is complete.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from haops.cluster.state import write_atomic
from haops.errors import StateDamaged
from haops.stores.backup import RestoreWish

_NAME: Final = "restore.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class HalfRestored:
    """How far a restore is.

    Args:
        backup: The backup's id.
        repository: Where it was read from, as the operator wrote it.
        wipe: Whether what is in the way may be removed.
        wiped: Whether it is gone.
        stage: The stage in progress; empty before the first.
        mark: Where in it to go on.
        done: Units of work done in it.
        begun: UTC, ISO-8601.
    """

    backup: str
    repository: str
    wish: RestoreWish
    begun: str
    wipe: bool = False
    wiped: bool = False
    stage: str = ""
    mark: str = ""
    done: int = 0

    def words(self, cluster: str) -> str:
        """What is known of it, and both ways out: a backup that is damaged can only be given up."""
        where = f"in its stage {self.stage}" if self.stage else "before its first stage"
        options = "--resume and --merge" if self.wish.merge else "--resume"
        return (
            f"a restore of {self.backup} was cut off {where}: begin anew, with this backup or another, by --wipe "
            f"in place of {options}; or finish it: {self.command(cluster)}"
        )

    def command(self, cluster: str) -> str:
        """What goes on with it."""
        repository = ("--repo", self.repository) if self.repository else ()
        words = ("haops", "restore", self.backup, "--to", cluster, "--resume", *repository)
        return shlex.join((*words, *wish_options(self.wish)))


def wish_options(wish: RestoreWish) -> tuple[str, ...]:
    """A wish as the options of `haops restore`."""
    only = ("--only", wish.only) if wish.only is not None else ()
    at = ("--at", wish.at.isoformat()) if wish.at else ()
    return (*only, *at, *(("--merge",) if wish.merge else ()))


class RestoreFile:
    """One cluster's `restore.json`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    @property
    def there(self) -> bool:
        """Whether there is a restore that is not complete, readable or not."""
        return self._path.is_file()

    def read(self) -> HalfRestored | None:
        """The restore that is not complete, if there is one.

        Raises:
            StateDamaged: There is one, and the file cannot be read.
        """
        if not self.there:
            return None
        from pydantic import TypeAdapter, ValidationError

        hint = "begin the restore anew with --wipe, or remove the file"
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.get("format") != _FORMAT:
                raise StateDamaged(f"{self._path}:1:1: not a restore's record of format {_FORMAT}", hint=hint)
            return TypeAdapter(HalfRestored).validate_python(document["restore"], strict=False)
        except json.JSONDecodeError as error:
            raise StateDamaged(
                f"{self._path}:{error.lineno}:{error.colno}: {error.msg}", hint=hint
            ) from error
        except (ValidationError, KeyError, UnicodeDecodeError, OSError) as error:
            raise StateDamaged(
                f"{self._path}:1:1: the record is damaged", detail=str(error), hint=hint
            ) from error

    def write(self, half: HalfRestored) -> None:
        """Keep how far it is."""
        from pydantic import TypeAdapter

        body = TypeAdapter(HalfRestored).dump_python(half, mode="json")
        write_atomic(self._path, json.dumps({"format": _FORMAT, "restore": body}, indent=2) + "\n")

    def clear(self) -> None:
        """The restore is complete, or a new one begins."""
        self._path.unlink(missing_ok=True)
