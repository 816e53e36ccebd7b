"""The memory of making and reading a backup, over sizes: it must not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GB = 1024**3
LIMIT_MB = 200

# In a process of its own: the peak is the kernel's word for the whole process, Python and all.
_SCRIPT = textwrap.dedent(
    """
    import json, resource, sys, time
    from contextlib import contextmanager
    from datetime import UTC, datetime
    from pathlib import Path

    from haops.backup import create as making
    from haops.backup.archive import open_archive
    from haops.backup.create import BackupOrder, create
    from haops.backup.keys import Identities
    from haops.backup.repository import open_repository
    from haops.cluster.spec import Cluster, Node, NodeKind, Phase, StoreName
    from haops.cluster.state import StateDir
    from haops.control.lifecycle import Lifecycle
    from haops.stores.backup import Backing, Facts, Form, Part

    size, folder = int(sys.argv[1]), Path(sys.argv[2])
    BLOCK = 1 << 20

    class Source:
        def parts(self):
            return [Part("redis/dump.rdb", "redis-1", Form.PHYSICAL, size)]

        def read(self, part):
            # No two blocks are the same, so that no chunk is; they pack well, so that the disk holds them.
            for number in range(size // BLOCK):
                yield number.to_bytes(8, "big") * (BLOCK // 8)

        def facts(self):
            return Facts("8.0", "x:1", datetime.now(UTC))

        def release(self):
            pass

    @contextmanager
    def source(cluster, tools, wish):
        yield Source()

    making.load_backing = lambda store: Backing(source, None, None)
    node = Node("redis-1", NodeKind.SERVER, 1, "10.0.0.1", 6379, 20000)
    cluster = Cluster(
        "big", StoreName.REDIS, "owner", "10.0.0.0/24", "image", (node,), datetime.now(UTC), None, Phase.READY, "async"
    )
    haops = Lifecycle(StateDir(folder / "state"), None, lambda *_: "image")
    repository = open_repository(str(folder / "repo"), make=True)
    began = time.monotonic()
    made = create(haops, cluster, repository, BackupOrder())
    took = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.monotonic()
    read = sum(len(block) for block in open_archive(repository, made.id, Identities()).read("redis/dump.rdb"))
    assert read == made.bytes == size
    print(json.dumps({
        "making_s": took, "making_mb": peak, "reading_s": time.monotonic() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))
    """
)


@pytest.mark.timeout(900)
def test_memory_stays_below_200_mb_up_to_10_gb(tmp_path: Path) -> None:
    print("\nsize      making                 making and reading")
    for gigabytes in (0.1, 1, 10):
        folder = tmp_path / str(gigabytes)
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(int(gigabytes * GB) >> 20 << 20), folder],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        print(
            f"{gigabytes:5} GB  {found['making_mb']:.0f} MB, {found['making_s']:.1f} s"
            f"  {found['peak_mb']:.0f} MB, {found['reading_s']:.1f} s"
        )
        assert found["peak_mb"] < LIMIT_MB
