"""A simulated gateway that answers like the official API, fails as real ones fail, and keeps account of it.

    async with Gateway(GatewayOptions(script="429 429 ok; reset ok")) as gateway:
        ...  # a client with gateway.base_url
        gateway.ledger.billed_usage()

It shares no code with the client half of this package, so that the two cannot share a mistake.
"""

from batchrun.gateway.app import Gateway, serve_until_stopped
from batchrun.gateway.ledger import Ledger, LedgerRow, Usage
from batchrun.gateway.options import GatewayOptions
from batchrun.gateway.script import FaultScript, Word, parse_script

__all__ = [
    "FaultScript",
    "Gateway",
    "GatewayOptions",
    "Ledger",
    "LedgerRow",
    "Usage",
    "Word",
    "parse_script",
    "serve_until_stopped",
]
