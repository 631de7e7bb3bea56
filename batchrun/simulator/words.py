"""The vocabulary of the simulated model."""

from __future__ import annotations

import random

_SENTENCES = (
    "A reverse proxy takes the client's request and passes it on to a server behind it.",
    "Server-sent events carry a stream of small messages over one long answer.",
    "The reviewer praises the fast delivery but finds the price a little high.",
    "On the whole the text speaks of a quiet morning by the sea.",
    "The result is stable: the same question gives the same answer each time.",
    "反向代理先接收客户端请求,再转发给后端服务,并将结果统一返回给客户端。",
    "Le café était déjà fermé, et la place presque vide.",
    "Die Größe der Datei überschreitet die Grenze nicht.",
    "それは簡単な答えではありませんが、要点は明らかです。",
    "Кратко: да, это возможно, но не сразу.",
    "In short: yes, with some care about limits 🙂 and retries.",
    "It depends on the load; measure first, then decide.",
    "The invoice was paid on time, and the order has been shipped.",
    "No sign of an error was found in the three samples.",
    "The tone is friendly, the wording plain, the message short.",
    "Two of the four claims are backed by the text, the others are not.",
)
_WORD_LIST = (
    "amber basin cedar delta ember fable grove harbor island juniper kettle lantern meadow needle orchard "
    "pebble quartz river saddle timber umbra valley willow yarrow zephyr"
)
_WORDS = _WORD_LIST.split()


def sentences(rng: random.Random, count: int) -> str:
    """`count` sentences of prose, in several writing systems."""
    return " ".join(rng.choice(_SENTENCES) for _ in range(count))


def words(rng: random.Random, count: int) -> str:
    """`count` plain words, separated by spaces."""
    return " ".join(rng.choice(_WORDS) for _ in range(count))
