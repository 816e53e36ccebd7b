"""Taking part in Sentinel's own protocol: an epoch won by votes, a new primary told in its own words.

Sentinel remains what clients ask. Who wants to move the primary without
fighting it asks for votes like any Sentinel (`IS-MASTER-DOWN-BY-ADDR` with an
epoch and a run id), so that nobody else can act for that epoch, and afterwards
says a hello message, as Sentinels do among themselves (redis, sentinel.c:
sentinelVoteLeader, sentinelProcessHelloMessage). `SENTINEL REMOVE` and
`MONITOR` would reset the epoch to 0: a Sentinel that was away would come back
with a higher one and the old address, and drag the others back.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from haops.cluster.spec import Cluster, Node
from haops.stores.plan import StepFailed
from haops.stores.redis.links import Command, Links, ask_each, good
from haops.stores.redis.plan import majority
from haops.stores.redis.topology import SERVICE, sentinel_id

HELLO: Final = "__sentinel__:hello"
# A Sentinel answers within a millisecond; one that needs longer is left out of the round.
ROUND_S: Final = 0.15
# A vote and a new primary go to the Sentinel's disk first, which takes a second where the disk is
# busy; without a majority there is nothing better to do than to wait for it.
LONGEST_S: Final = 1.0
# Failed elections may have pushed the Sentinels' current epoch, which they do not tell, ahead of
# what they tell.
_TRIES: Final = 12


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one Sentinel says of the primary.

    Args:
        primary: Where it sends clients, by container address.
        epoch: The configuration epoch under which it learned that.
        flags: Its flags, such as `s_down` or `failover_in_progress`.
        silent_ms: How long the ping that it waits for has been out; 0 if none is.
    """

    primary: tuple[str, int]
    epoch: int
    flags: tuple[str, ...]
    silent_ms: int

    @property
    def suspects(self) -> bool:
        """Whether it holds the primary for dead."""
        return "s_down" in self.flags or "o_down" in self.flags


@dataclass(frozen=True, slots=True)
class Mandate:
    """An epoch that a majority gave to this run id, and to nobody else."""

    epoch: int
    run_id: str
    voters: tuple[str, ...]


class Sentinels:
    """The Sentinels of a cluster, asked all at once."""

    def __init__(self, cluster: Cluster, links: Links) -> None:
        self._cluster = cluster
        self._links = links

    @property
    def names(self) -> list[str]:
        """Those that can be asked right now."""
        return [link.name for link in self._links.usable(n.name for n in self._cluster.sentinels)]

    def opinions(self) -> dict[str, Opinion]:
        """What each one that answers says; who is silent is left out."""
        command = ("SENTINEL", "MASTER", SERVICE)
        answers = good(self._ask_majority(dict.fromkeys(self.names, command)))
        # While it fails over it sends clients to the promoted node before it says so in MASTER.
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        sends = good(self._ask_majority(dict.fromkeys(answers, command)))
        return {name: _opinion(answers[name], sends[name]) for name in sends if sends[name]}

    def win_epoch(self, primary: Node) -> Mandate:
        """Ask for votes until a majority gives one epoch to us.

        Raises:
            StepFailed: Somebody else won, or no majority answers.
        """
        run_id = secrets.token_hex(20)
        epoch = max((o.epoch for o in self.opinions().values()), default=0)
        refusal = "no Sentinel answered"
        for attempt in range(_TRIES):
            epoch += 1 + attempt // 3
            command = ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", primary.address, primary.port, epoch, run_id)
            answers = good(self._ask_majority(dict.fromkeys(self.names, command)))
            votes = {name: (str(a[1]), int(a[2])) for name, a in answers.items()}
            voters = tuple(name for name, vote in votes.items() if vote == (run_id, epoch))
            if len(voters) >= majority(self._cluster):
                return Mandate(epoch, run_id, voters)
            if len(answers) < majority(self._cluster):
                raise StepFailed(
                    f"{len(answers)} of {len(self._cluster.sentinels)} Sentinels answer: no majority can vote"
                )
            epoch = max(epoch, *(told for _, told in votes.values()))
            refusal = ", ".join(f"{name} voted in epoch {told}" for name, (_, told) in votes.items())
        raise StepFailed("the Sentinels voted for somebody else", detail=refusal)

    def announce(self, primary: Node, mandate: Mandate) -> tuple[str, ...]:
        """Tell every Sentinel who the primary is under the mandate's epoch; those that heard it.

        The message must come from a Sentinel that the hearer knows, and not from
        itself: each hears it in the name of another.
        """
        commands = {}
        for name in self.names:
            other = next(s for s in self._cluster.sentinels if s.name != name)
            commands[name] = ("PUBLISH", HELLO, self._hello(other, primary, mandate.epoch))
        return tuple(good(self._ask_majority(commands)))

    def _ask_majority(self, commands: Mapping[str, Command]) -> dict[str, Any]:
        enough = majority(self._cluster)
        return ask_each(commands, self._links, ROUND_S, enough=enough, longest_s=LONGEST_S)

    def _hello(self, sender: Node, primary: Node, epoch: int) -> str:
        words = (
            sender.address,
            sender.port,
            sentinel_id(self._cluster, sender),
            epoch,
            SERVICE,
            primary.address,
            primary.port,
            epoch,
        )
        return ",".join(map(str, words))

    def agree(self, primary: Node, opinions: Mapping[str, Opinion]) -> tuple[str, ...]:
        """Those that send clients to `primary`."""
        return tuple(n for n, o in opinions.items() if o.primary == (primary.address, primary.port))


def _opinion(master: Any, sends: Any) -> Opinion:
    """SENTINEL MASTER as RESP2 has it: a list of names and values."""
    fields = dict(zip(master[::2], master[1::2], strict=True))
    return Opinion(
        primary=(str(sends[0]), int(sends[1])),
        epoch=int(fields["config-epoch"]),
        flags=tuple(fields["flags"].split(",")),
        silent_ms=int(fields["last-ping-sent"]),
    )
