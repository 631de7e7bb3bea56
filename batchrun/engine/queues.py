"""The queues of a job: the lines for one path and model that belong to the same endpoint, and their peers at each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchrun.engine.attribution import Chances, Peers
from batchrun.engine.gateways import Gateway
from batchrun.engine.homes import ANYWHERE, Homes, Place
from batchrun.engine.routing import Queue
from batchrun.records.request import RequestLine


class Queues:
    """Makes the queue of each line. `all` has those that were made, `peers` the peers of their lines.

    `most`: how many queues the lines of the request file may have. `has_earlier`: a line has succeeded in an earlier
    run. `sticky`: lines that begin alike go to one endpoint.
    """

    def __init__(
        self, chances: Chances, gateways: Sequence[Gateway], most: int, *, has_earlier: bool, sticky: bool = False
    ) -> None:
        self.all: dict[tuple[str, str, Place], Queue] = {}
        self.peers: dict[tuple[Gateway, str, str], Peers] = {}
        self.gateways = gateways
        self.only = gateways[0] if gateways[0].name is None else None
        self._chances = chances
        self._most = most
        self._has_earlier = has_earlier
        self._homes = Homes(gateways, sticky=sticky)
        self._found = 0

    def __iter__(self) -> Iterator[Queue]:
        return iter(self.all.values())

    def of(self, line: RequestLine) -> Queue:
        """The queue of a line."""
        place = ANYWHERE if self.only is not None else self._homes.of(line)
        queue = self.all.get((line.url, line.model, place))
        return self._made(line, place) if queue is None else queue

    @property
    def may_be_more(self) -> bool:
        """Whether there may be lines of a queue that is not made yet."""
        return self._found < self._most

    def has_room_for_others(self, now: float) -> bool:
        """Whether there may be unread lines of a queue that is not made yet, and room for them."""
        if not self.may_be_more:
            return False
        if self.only is not None:
            return self.only.limiter.lanes.shared.has_room
        return any(gateway.has_room_for_others(now) for gateway in self.gateways)

    def _made(self, line: RequestLine, place: Place) -> Queue:
        gateways: Sequence[Gateway] = self.gateways
        if place.gateway is not None and place.is_only:
            gateways = [place.gateway]
        elif self.only is None:
            gateways = [gateway for gateway in gateways if gateway.serves(line.model)]
        routes = [self._peers_at(gateway, line.url, line.model) for gateway in gateways]
        queue = Queue(routes, self.gateways[0].shares, None if place.is_only else place.gateway)
        self.all[line.url, line.model, place] = queue
        if not place.is_only or line.endpoint is not None:
            self._found += 1  # the others are not counted in `most`
        return queue

    def _peers_at(self, gateway: Gateway, path: str, model: str) -> Peers:
        peers = self.peers.get((gateway, path, model))
        if peers is None:
            lane = gateway.limiter.lanes.of(model)
            peers = self.peers[gateway, path, model] = Peers(self._chances, path, model, lane, gateway)
            peers.may_find_control = self._has_earlier
        return peers
