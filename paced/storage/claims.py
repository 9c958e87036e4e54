"""Which of several hosts computes what: claims in the store that they share.

A claim saves work and nothing else. Rows are right by their keys whoever computes them, so where a claim is lost, or
two hosts hold one at once because the store overwrites what it is told to keep, some rows are computed twice. Nobody
waits for a host that has died: a claim that its holder has not renewed for LAPSE seconds counts no more. These are
seconds of the clock of the host that looks; no two clocks are compared.

The claim of an item is ``claims/KIND/COLLECTION/ITEM.N``, ITEM a digest of its keys; whoever follows one who has died
makes the one with the next N. One of rows that are there is of no meaning, and ``paced cache gc`` removes it.
"""

import contextlib
import json
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

from paced.errors import EngineError
from paced.storage.identity import short, text_digest
from paced.storage.shared import SharedStore, shared
from paced.storage.store import Collection

T = TypeVar("T")

CLAIMS = "claims"  # the folder of a store that they lie in
BEAT, LAPSE = 5.0, 20.0  # seconds between two signs of life; without one after which a claim counts no more
LOOK, LONGEST = 0.5, 5.0  # seconds between two looks at what others have in hand: the first, at most


class Claims:
    """The claims on items of one collection, as this process sees them."""

    def __init__(self, store: SharedStore, collection: Collection):
        self._objects = store.objects
        self._prefix = "/".join([CLAIMS, *collection.folder.parts[-2:]])
        self._seen: dict[str, tuple[bytes, float]] = {}  # a claim's latest content, and when it was first seen
        self.holders = set[str]()  # hosts that hold claims, at the last look

    def free(self, items: Sequence[str]) -> dict[str, int]:
        """Those of some items that nobody alive has claimed, each with the number of the claim to make."""
        latest = dict[str, int]()
        for found in self._objects.list(self._prefix):
            item, _, number = found.name.rpartition("/")[2].partition(".")
            latest[item] = max(latest.get(item, 0), int(number))
        self.holders = set[str]()
        return {
            item: latest[item] + 1 if item in latest else 0
            for item in items
            if item not in latest or self._lapsed(f"{item}.{latest[item]}")
        }

    def _lapsed(self, claim: str) -> bool:
        try:
            content = self._objects.get(f"{self._prefix}/{claim}")
        except FileNotFoundError:  # given back meanwhile
            return True
        now = time.monotonic()
        before, since = self._seen.get(claim, (b"", now))
        if content != before:
            self._seen[claim], since = (content, now), now
        if now - since >= LAPSE:
            return True
        with contextlib.suppress(ValueError, TypeError, KeyError):
            self.holders.add(str(json.loads(content)["host"]))
        return False

    @contextlib.contextmanager
    def held(self, item: str, number: int) -> Generator[bool]:
        """Claim an item, and renew that until the block ends; an error gives the claim back.

        Yields:
            whether the item is this process's; else another one was first.
        """
        name, nonce = f"{self._prefix}/{item}.{number}", secrets.token_hex(8)
        self._objects.create(name, content_of(nonce, 0))
        try:
            mine = self._objects.get(name) == content_of(nonce, 0)  # what create said may be the answer to a second try
        except FileNotFoundError:
            mine = False
        if not mine:
            yield False
            return
        done = threading.Event()

        def beat() -> None:
            number = 0
            while not done.wait(BEAT):
                number += 1
                with contextlib.suppress(EngineError):  # a store that is away; who computes is told by what it commits
                    self._objects.put(name, content_of(nonce, number))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield True
        except BaseException:
            done.set()
            with contextlib.suppress(EngineError):
                self._objects.delete([name])
            raise
        finally:
            done.set()


def content_of(nonce: str, beat: int) -> bytes:
    return json.dumps({"host": socket.gethostname(), "nonce": nonce, "beat": beat}).encode()


def awaited(
    collection: Collection,
    parts: Sequence[Mapping[str, object]],
    there: Callable[[Mapping[str, object]], None],
    look: Callable[[], None],
) -> None:
    """Return when all rows of some parts are there, whoever computes them.

    Args:
        there: is given each part that has come to be there.
        look: is called after each look at the store.
    """
    left, wait = list(parts), LOOK
    while True:
        index = collection.refresh(anew=True)
        done, missing = list[Mapping[str, object]](), list[Mapping[str, object]]()
        for part in left:
            (done if part.keys() <= index.keys() else missing).append(part)
        for part in done:
            there(part)
        look()
        if not missing:
            return
        left, wait = missing, LOOK if done else min(LONGEST, 2 * wait)
        time.sleep(wait)


def divided(
    collection: Collection,
    parts: Sequence[Mapping[str, T]],
    compute: Callable[[Mapping[str, T]], int],
    there: Callable[[Mapping[str, T]], None],
    tell: Callable[[str], None],
) -> int:
    """Have all rows of some parts, each computed by whichever host has a hand free; without a shared store, in order.

    Args:
        parts: cut alike on all hosts; by key, what a row is computed from.
        compute: computes and commits what is missing of a part, and returns how many rows that were.
        there: is given each part that has come to be there, whoever has computed it.
        tell: takes a line for people where others are waited for.

    Returns:
        how many rows were computed here.
    """
    store, computed, wait = shared(), 0, LOOK
    if store is None:
        for part in parts:
            computed += compute(part)
            there(part)
        return computed
    claims, left = Claims(store, collection), {short(text_digest(" ".join(part))): part for part in parts}
    while True:
        index = collection.refresh(anew=True)
        for item in [item for item, part in left.items() if part.keys() <= index.keys()]:
            there(left.pop(item))
        if not left:
            return computed
        free = claims.free([*left])
        order, idle = [*free], True
        random.SystemRandom().shuffle(order)  # hosts that begin together then seldom want the same one
        for item in order:
            with claims.held(item, free[item]) as mine:
                if not mine:
                    break
                computed += compute(left[item])
            there(left.pop(item))
            idle, wait = False, LOOK
        if idle:
            if not free and wait == LOOK:
                hosts = ", ".join(sorted(claims.holders))
                tell(f"waits for what is in hand of {hosts}: {len(left)} of {len(parts)} parts")
            time.sleep(wait)
            wait = min(LONGEST, 2 * wait)
