"""Write requests.jsonl, one request for each message of gold.jsonl.

    python make_requests.py [gold.jsonl [requests.jsonl]]

To label your own texts, give each a custom_id and a message, and change LABELS and GUIDE.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = "gpt-4.1-mini"
TOPICS = ["billing", "delivery", "defect", "account", "returns", "question", "praise", "other"]
SENTIMENTS = ["negative", "neutral", "positive"]

GUIDE = """\
You label messages that customers sent to an online shop. Messages may be in any language.

topic, by what the customer wants dealt with:
- billing: charges, invoices, prices, payment, vouchers, gift cards and points
- delivery: shipping options, dispatch, tracking, packing; parcels late, lost, damaged, wrong or incomplete
- defect: a product that is faulty, unsafe or fails to do what it should
- account: signing in, profile and personal data, newsletters, changing or ending a subscription
- returns: sending back or exchanging goods, and refunds for goods sent back
- question: what a product is like, how it is used, whether it is in stock
- praise: thanks or compliments that leave nothing to deal with
- other: everything else, such as shops and opening hours, the website itself, jobs, offers, spam

sentiment, by the tone of the whole message:
- negative: annoyed, disappointed or worried
- positive: pleased
- neutral: a plain question or statement; politeness alone is neutral

urgent is true only if people or their health may be in danger, if a stranger has used or may now use \
the customer's account or card, or if the message names a deadline no more than two days away. \
Capital letters and the word "urgent" do not make a message urgent."""

LABELS = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": TOPICS},
        "sentiment": {"type": "string", "enum": SENTIMENTS},
        "urgent": {"type": "boolean"},
    },
    "required": ["topic", "sentiment", "urgent"],
    "additionalProperties": False,
}


def request(custom_id: str, message: str) -> dict[str, Any]:
    """Return the batch line that asks for the labels of one message."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/responses",
        "body": {
            "model": MODEL,
            "instructions": GUIDE,
            "input": message,
            "text": {"format": {"type": "json_schema", "name": "labels", "strict": True, "schema": LABELS}},
            "max_output_tokens": 100,
        },
    }


def main(source: Path = HERE / "gold.jsonl", target: Path = HERE / "requests.jsonl") -> None:
    """Read the messages and write a request for each."""
    with (
        source.open(encoding="utf-8", newline="\n") as messages,
        target.open("w", encoding="utf-8", newline="\n") as requests,
    ):
        for line in messages:
            item = json.loads(line)
            record = request(item["custom_id"], item["message"])
            requests.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
