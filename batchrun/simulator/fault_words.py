"""The words of the fault script and what each does. A status from 400 to 599 is a word too."""

from __future__ import annotations

ANSWER_WORDS = {
    "ok": "nothing goes wrong",
    "cut": "half of the answer, then the connection closes",
    "cutchunk": "the same, inside a chunk of the chunked encoding",
    "drip": "the answer, one byte a second",
    "hang": "half of the answer, then silence",
    "split": "the answer in pieces of a few bytes, cut anywhere",
    "nan": "an answer with NaN in it, which is not JSON",
    "latin1": "an answer with a byte that is not UTF-8",
    "failed": "a Response with status failed",
    "queued": "a Response with status queued",
    "incomplete": "half of the answer, with reason max_output_tokens",
    "filtered": "half of the answer, with reason content_filter",
    "refusal": "a refusal in a completed Response",
    "mismatch": "text that does not fit the schema that was asked for",
    "fenced": "the text in a code fence",
    "nousage": "no usage",
    "nullusage": "usage null",
    "chatusage": "usage with the names of chat completions",
    "strusage": "usage with its numbers as strings",
    "sse": "a stream, even if none was asked for",
    "json": "plain JSON, even if a stream was asked for",
    "eof": "a stream that ends without its last event",
    "emptyout": "a last event, or a plain Response, whose output is empty",
    "ping": "a comment before every event",
    "done": "a [DONE] after the last event",
    "crlf": "events with CRLF line ends",
}
"""The model answers, and then its answer is changed. These words may be joined with `+`."""

SILENT_WORDS = {
    "reset": "a connection reset before any answer",
    "stall": "no answer, ever",
    "pingonly": "a stream of comments, for ever",
    "html": "a web page with status 200",
    "empty": "an empty body with status 200",
    "array": "[] with status 200",
    "error200": "an error object with status 200",
    "redirect": "a 307 to another path",
    "errorevent": "a stream that breaks off with an error event, its fields flat",
    "nestederror": "the same, its fields under `error`",
}
"""The model does not answer, but there is no HTTP error either."""

ERROR_WORDS = {
    "quota": "429 insufficient_quota",
    "badkey": "401 invalid_api_key",
    "context": "400 context_length_exceeded",
    "locked": "400 conversation_locked",
    "nomodel": "404 model_not_found",
    "relaykey": "401 of a relay whose token is spent",
    "channelkey": "401 of a relay whose own upstream key is wrong",
    "balance": "403 of a relay whose account is empty",
    "hold": "403 of a relay that cannot reserve the cost",
    "window": "429 of a relay with a window, without code and Retry-After",
    "saturated": "429 of a relay whose upstream is busy, without code",
    "toolarge": "429 for one request above the tokens per minute",
    "slow": "429 slow_down",
    "overloaded": "503 server_is_overloaded",
    "nochannel": "503 model_not_found of a relay without a channel",
    "convert": "500 convert_request_failed of a relay, which no retry can fix",
}
"""Errors by name, because their status alone does not identify them."""


def is_known(word: str) -> bool:
    """Whether the fault script may contain this word."""
    if word.isdecimal():
        return 400 <= int(word) <= 599
    return word in ANSWER_WORDS or word in SILENT_WORDS or word in ERROR_WORDS
