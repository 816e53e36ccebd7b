"""Who can read a backup: age recipients who are named when it is made, identities that open it.

Recipients are public, so the machine that makes backups needs no secret (https://age-encryption.org/v1).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from haops.errors import BadInput

IDENTITY_VARIABLE: Final = "HAOPS_AGE_IDENTITY"

_OTHERS: Final = 0o077
_RING_DIGITS: Final = 16
_KEY_WORD: Final = "AGE-SECRET-KEY-1"


class NoKey(BadInput):
    """None of the identities opens this backup."""


def ring(recipients: Iterable[str]) -> str:
    """A name for a set of recipients; empty for none. Chunks for other readers are other chunks."""
    words = sorted(set(recipients))
    return blake3("\n".join(words).encode()).hexdigest()[:_RING_DIGITS] if words else ""


class Lock:
    """Encrypts for some recipients.

    Args:
        recipients: `age1...`, or an SSH public key (`ssh-ed25519 ...`, `ssh-rsa ...`); none: bytes stay as they are.

    Raises:
        BadInput: One is no recipient.
    """

    def __init__(self, recipients: Sequence[str]) -> None:
        self._keys = [_recipient(word) for word in recipients]

    def encrypt(self, content: bytes) -> bytes:
        """The bytes as an age file."""
        import pyrage  # type: ignore[import-untyped]

        encrypted: bytes = pyrage.encrypt(content, self._keys)
        return encrypted


class Identities:
    """The secrets at hand."""

    def __init__(self, keys: Sequence[Any] = ()) -> None:
        self._keys = list(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def decrypt(self, content: bytes, recipients: Sequence[str]) -> bytes:
        """The plain bytes of an age file.

        Raises:
            NoKey: No identity fits.
        """
        import pyrage

        if self._keys:
            try:
                plain: bytes = pyrage.decrypt(content, self._keys)
                return plain
            except pyrage.DecryptError:
                pass
        shown = ", ".join(recipients) or "somebody"
        lacking = "none of the identities fits" if self._keys else "no identity is given"
        raise NoKey(
            f"encrypted for {shown}; {lacking}",
            hint=f"--identity FILE, or {IDENTITY_VARIABLE}=FILE, with the secret key of one of them",
        )


def read_identities(files: Sequence[Path] = ()) -> Identities:
    """The identities in these files; without any, in the file that HAOPS_AGE_IDENTITY names, if it is set.

    Raises:
        BadInput: A file cannot be read, may be read by others, or holds no identity.
    """
    if not files and (named := os.environ.get(IDENTITY_VARIABLE)):
        files = (Path(named),)
    return Identities([key for path in files for key in _read(path.expanduser())])


def _read(path: Path) -> list[Any]:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the identity file {path} cannot be read", detail=str(error)) from error
    if mode & _OTHERS:
        raise BadInput(
            f"the identity file {path} may be read by others ({stat.filemode(mode)})",
            hint=f"chmod 600 {path}",
        )
    keys = _ssh(text) if "PRIVATE KEY-----" in text else _age(text)
    if not keys:
        raise BadInput(f"{path} holds no identity", hint=f"a line {_KEY_WORD}..., or an SSH private key")
    return keys


def _age(text: str) -> list[Any]:
    import pyrage

    words = [line.strip() for line in text.splitlines()]
    try:
        return [pyrage.x25519.Identity.from_str(word) for word in words if word.startswith(_KEY_WORD)]
    except pyrage.IdentityError:  # its words may hold the secret
        raise BadInput("an identity file has a line that is no identity") from None


def _ssh(text: str) -> list[Any]:
    import pyrage

    try:
        return [pyrage.ssh.Identity.from_buffer(text.encode())]
    except pyrage.IdentityError:
        raise BadInput("the SSH key cannot be used", hint="it must have no passphrase") from None


def _recipient(word: str) -> Any:
    import pyrage

    if _KEY_WORD.casefold() in word.casefold() or "PRIVATE KEY" in word:
        raise BadInput("that is a secret key, not a recipient", hint="name its public key: age1...")
    kind = pyrage.ssh if word.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(word)
    except (pyrage.RecipientError, ValueError) as error:
        # Whatever else was given may be a secret that was mistyped: it is not repeated.
        shown = repr(word) if word.startswith(("age1", "ssh-")) else "what is given"
        raise BadInput(f"{shown} is no recipient", hint="age1..., or an SSH public key") from error
