"""Backups in tables for people, and in documents for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from haops.cli import output as shapes

if TYPE_CHECKING:
    from haops.backup.catalogue import Entry
    from haops.backup.manifest import Manifest, PartRecord
    from haops.backup.prune import Pruned
    from haops.backup.verify import Verified
    from haops.compare.proof import Proof

_COLUMNS = ("BACKUP", "STORE", "CLUSTER", "CREATED", "SIZE", "STORED", "STATE", "VERIFIED")
_WIDE = ("PARTS", "NEW", "ENCRYPTED", "POSITION", "NOTE")
_STYLES = {"complete": "green", "incomplete": "yellow", "damaged": "bold red"}
_SHOWN_FINDINGS = 20


def entry_fields(entry: Entry) -> dict[str, Any]:
    """The documented shape of one backup in a list."""
    summary, checked = entry.summary, entry.checked
    return {
        "id": entry.id,
        "store": entry.store.value if entry.store else None,
        "cluster": entry.cluster,
        "created": _time(entry.created),
        "bytes": summary.bytes if summary else None,
        "stored": summary.stored if summary else None,
        "new": summary.new if summary else None,
        "state": entry.state.value,
        "encrypted": bool(entry.begun.recipients) if entry.begun else None,
        "parts": summary.parts if summary else None,
        "position": summary.facts.position if summary else None,
        "verified": {"depth": checked.depth, "at": _time(checked.at), "ok": checked.ok} if checked else None,
        "note": entry.note or None,
    }


def entry_details(entry: Entry, manifest: Manifest | None) -> dict[str, Any]:
    """One backup with all that is known about it."""
    details = manifest_fields(manifest) if manifest else {}
    return {**entry_fields(entry), **details}


def manifest_fields(manifest: Manifest) -> dict[str, Any]:
    """A complete backup."""
    begun, facts = manifest.begun, manifest.facts
    return {
        "id": manifest.id,
        "store": begun.store.value,
        "cluster": begun.cluster,
        "created": _time(manifest.created),
        "bytes": manifest.bytes,
        "stored": manifest.stored,
        "new": manifest.new,
        "state": "complete",
        "encrypted": bool(manifest.recipients),
        "recipients": list(manifest.recipients),
        "started": _time(begun.started),
        "finished": _time(manifest.finished),
        "haops": begun.haops,
        "shape": asdict(begun.shape),
        "wish": asdict(begun.wish),
        "server": facts.version,
        "position": facts.position,
        "lag": facts.lag or None,
        "earliest": _time(facts.earliest) if facts.earliest else None,
        "left_out": list(facts.left_out),
        "parts": [_part_fields(part) for part in manifest.parts],
    }


def _part_fields(part: PartRecord) -> dict[str, Any]:
    return {
        "name": part.name,
        "node": part.node or None,
        "form": part.form.value,
        "bytes": part.size,
        "stored": sum(chunk.stored for chunk in part.chunks),
        "chunks": len(part.chunks),
        "blake3": part.digest,
    }


def print_entries(entries: Sequence[Entry], *, wide: bool) -> None:
    """A table of backups."""
    table = shapes.table(*_COLUMNS, *(_WIDE if wide else ()))
    for entry in entries:
        summary, checked = entry.summary, entry.checked
        verified = f"{checked.looked_at} {'ok' if checked.ok else 'FAILED'}" if checked else "-"
        cells = [
            entry.id,
            entry.store.value if entry.store else "?",
            shapes.plain(entry.cluster),
            _time(entry.created),
            _size(summary.bytes) if summary else "-",
            _size(summary.stored) if summary else "-",
            f"[{_STYLES[entry.state]}]{entry.state}[/]",
            verified,
        ]
        table.add_row(*cells, *(_wide_cells(entry) if wide else ()))
    shapes.out().print(table)
    for entry in entries:
        if entry.note:
            shapes.err().print(f"{entry.id} is {entry.state}: {entry.note}", markup=False)


def _wide_cells(entry: Entry) -> Sequence[str]:
    summary = entry.summary
    encrypted = "?" if entry.begun is None else "yes" if entry.begun.recipients else "no"
    return (
        str(summary.parts) if summary else "-",
        _size(summary.new) if summary else "-",
        encrypted,
        shapes.plain(summary.facts.position) if summary else "-",
        shapes.plain(entry.note),
    )


def print_entry(entry: Entry, manifest: Manifest | None, *, wide: bool) -> None:
    """One backup, a line a fact; its parts where there is room for them."""
    console = shapes.out()
    console.print(f"{entry.id}: {entry.state}", markup=False)
    if entry.note:
        console.print(f"  {entry.note}", markup=False)
    if manifest is None:
        return
    for label, text in _facts(manifest):
        console.print(f"  {label}: {text}", markup=False, soft_wrap=True)
    if entry.checked:
        outcome = "ok" if entry.checked.ok else "FAILED"
        console.print(
            f"  verified: {entry.checked.depth}, {_time(entry.checked.at)}: {outcome}", markup=False
        )
    if wide:
        table = shapes.table("PART", "NODE", "FORM", "SIZE", "CHUNKS")
        for part in manifest.parts:
            name, node = shapes.plain(part.name), shapes.plain(part.node)
            table.add_row(name, node or "-", part.form.value, _size(part.size), str(len(part.chunks)))
        console.print(table)


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    begun, facts, shape = manifest.begun, manifest.facts, manifest.begun.shape
    took = (manifest.finished - begun.started).total_seconds()
    nodes = f"{shape.nodes} nodes" + (f", {shape.observers} observers" if shape.observers else "")
    nodes += f", {shape.dcs} data centres" if shape.dcs > 1 else ""
    found = [
        ("of", f"{begun.store} {facts.version}, cluster {begun.cluster}, {nodes}, mode {shape.mode}"),
        ("state of", f"{_time(manifest.created)}, {facts.position}"),
        ("behind", facts.lag),
        ("can be restored to any moment from", _time(facts.earliest) if facts.earliest else ""),
        ("made", f"{_time(begun.started)}, in {took:.1f} s, by haops {begun.haops}"),
        (
            "size",
            f"{_size(manifest.bytes)}; stored {_size(manifest.stored)}, {_size(manifest.new)} of it new",
        ),
        ("parts", str(len(manifest.parts))),
        ("encrypted for", ", ".join(manifest.recipients) or "nobody: it is not encrypted"),
    ]
    found += [("not in it", text) for text in facts.left_out]
    return [(label, text) for label, text in found if text]


def print_made(manifest: Manifest) -> None:
    """What came of a backup, in one line, and what is not in it."""
    took = (manifest.finished - manifest.begun.started).total_seconds()
    shapes.out().print(
        f"{manifest.id}: {len(manifest.parts)} parts, {_size(manifest.bytes)}, "
        f"{_size(manifest.new)} newly stored, {took:.1f} s; {manifest.facts.position}",
        markup=False,
        soft_wrap=True,
    )
    for text in manifest.facts.left_out:
        shapes.err().print(f"not in it: {text}", markup=False)


def verified_fields(verified: Verified) -> dict[str, Any]:
    """The documented shape of a verification."""
    return {
        **asdict(verified),
        "ok": verified.ok,
        "depth": verified.depth.value,
        "took_s": round(verified.took_s, 3),
        "findings": [asdict(finding) for finding in verified.findings],
        "note": verified.note or None,
    }


def print_verified(found: Sequence[Verified]) -> None:
    """A line a backup, and a line for each thing that is wrong."""
    table = shapes.table("BACKUP", "DEPTH", "CHUNKS", "READ", "BYTES READ", "TOOK", "")
    for verified in found:
        verdict = "[green]ok[/]" if verified.ok else f"[bold red]{verified.wrong} wrong[/]"
        cells = (
            f"{verified.chunks:,}",
            f"{verified.read:,}",
            _size(verified.bytes),
            f"{verified.took_s:.1f} s",
        )
        table.add_row(verified.backup, verified.depth.value, *cells, verdict)
    shapes.out().print(table)
    for verified in found:
        _print_remarks(verified)


def _print_remarks(verified: Verified) -> None:
    console = shapes.err()
    if verified.seed is not None:
        console.print(f"{verified.backup}: chosen with --seed {verified.seed}", markup=False)
    if verified.note:
        console.print(f"{verified.backup}: {verified.note}", markup=False)
    for finding in verified.findings[:_SHOWN_FINDINGS]:
        chunk = f"chunk {finding.chunk[:16]}: " if finding.chunk else ""
        part = f"part {finding.part}: " if finding.part else ""
        console.print(f"{verified.backup}: {part}{chunk}{finding.words}", markup=False, soft_wrap=True)
    if (more := verified.wrong - _SHOWN_FINDINGS) > 0:
        console.print(f"{verified.backup}: and {more} more; see: -o json", markup=False)


def proof_fields(proof: Proof) -> dict[str, Any]:
    """The documented shape of a verification by restoring."""
    return {**asdict(proof), "words": list(proof.words)}


def print_proofs(proofs: Sequence[Proof]) -> None:
    """What restoring showed."""
    for proof in proofs:
        shapes.out().print(
            f"{proof.backup}: {_proof_words(proof)}: {proof.records:,} records, "
            f"restored in {proof.restore_s:.1f} s, {proof.took_s:.1f} s in all",
            markup=False,
        )
        for text in proof.words:
            shapes.err().print(f"  {text}", markup=False)


def _proof_words(proof: Proof) -> str:
    if proof.ok is None:
        return "unknown"
    if proof.ok:
        return "restored and equal"
    return f"{proof.differences:,} differences" if proof.differences else "FAILED"


def pruned_fields(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """The documented shape of a removal."""
    return {
        "dry_run": dry_run,
        "kept": [{"id": backup, "rules": list(why)} for backup, why in pruned.decision.keep.items()],
        "removed": [*pruned.decision.forget, *pruned.dropped],
        "chunks": pruned.chunks,
        "bytes": pruned.bytes,
        "chunks_stay": pruned.chunks_stay or None,
    }


def print_pruned(pruned: Pruned, *, dry_run: bool) -> None:
    """What goes and what stays."""
    table = shapes.table("BACKUP", "", "RULES")
    removed = "would go" if dry_run else "removed"
    for backup, why in pruned.decision.keep.items():
        table.add_row(backup, "[green]kept[/]", ", ".join(why))
    for backup in (*pruned.decision.forget, *pruned.dropped):
        table.add_row(backup, f"[red]{removed}[/]", "")
    shapes.out().print(table)
    if pruned.chunks_stay:
        which = "no further chunk" if pruned.chunks else "no chunk"
        shapes.err().print(f"{which} is removed now: {pruned.chunks_stay}", markup=False)
    if pruned.chunks or not pruned.chunks_stay:
        shapes.out().print(f"{removed}: {pruned.chunks:,} chunks, {_size(pruned.bytes)}", markup=False)


def _size(size: int) -> str:
    from haops.cli.transfer import size_words

    return size_words(size)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
