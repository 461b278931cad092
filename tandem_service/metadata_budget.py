"""What fits the metadata that carry a status, which gRPC's clients bound to 8 KiB.

A client drops larger ones and sees RESOURCE_EXHAUSTED instead, without a word about its request.
"""

BUDGET_BYTES = 6000
"""For all violations of an error. The rest is for the frame around them and for what proxies add."""

_MAX_FIELD_BYTES = 200
# With a field of 200, this fits the budget where every byte is one that takes most room.
_MAX_DESCRIPTION_BYTES = 700
_NUM_FRAME_BYTES = 10


def short(field: str, description: str) -> tuple[str, str]:
    """Both texts, cut so that they fit the budget together, and as UTF-8 can say them."""
    return _cut(field, _MAX_FIELD_BYTES), _cut(description, _MAX_DESCRIPTION_BYTES)


def num_bytes(field: str, description: str) -> int:
    """What a violation takes: once in grpc-message, and in the details as itself and in their message.

    grpc-message has three bytes for each that is not printable ASCII; details travel as base64.
    """
    text = f"{field}: {description}; ".encode()
    in_message = sum(1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3 for byte in text)
    return in_message + (2 * len(text) + _NUM_FRAME_BYTES) * 4 // 3 + 1


def _cut(text: str, max_bytes: int) -> str:
    data = text[: max_bytes + 1].encode(errors="replace")
    if len(data) <= max_bytes:
        return data.decode()
    return data[: max_bytes - 3].decode(errors="ignore") + "..."
