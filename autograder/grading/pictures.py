"""The pictures that a student pasted into an answer: what of them can be kept and shown safely."""

import base64
import io
import warnings
from typing import Any

from PIL import Image

MOST_BYTES = 4 * 2**20  # of one picture
MOST_BYTES_OF_ALL = 8 * 2**20
MOST_PIXELS = 40_000_000
MOST_PICTURES = 20  # of one answer
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")  # No SVG: it is a document, with links and scripts.


def pictures(attachments: Any) -> tuple[dict[str, str], list[str]]:
    """The pictures among a cell's attachments.

    Args:
        attachments: as the notebook has them, by name and by type, each base64; or anything else.

    Returns:
        The pictures as `data:` addresses, by name, and why each other attachment is left out. What
        a picture is, its first bytes decide, never what the notebook calls it.
    """
    kept: dict[str, str] = {}
    left_out: list[str] = []
    total = 0
    found = list(attachments.items()) if isinstance(attachments, dict) else []
    if len(found) > MOST_PICTURES:
        left_out.append(f"{len(found) - MOST_PICTURES} of {len(found)} pictures")
    for name, types in found[:MOST_PICTURES]:
        data = next(iter(types.values()), "") if isinstance(types, dict) else ""
        try:
            content, kind = _picture("".join(data) if isinstance(data, list) else data)
        except ValueError as error:
            left_out.append(f"{name[:60]}: {error}")
            continue
        total += len(content)
        if total > MOST_BYTES_OF_ALL:
            left_out.append(
                f"{name[:60]}: the pictures take more than {MOST_BYTES_OF_ALL >> 20} MiB"
            )
            break
        kept[name] = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return kept, left_out


def _picture(data: object) -> tuple[bytes, str]:
    """A picture's bytes and its type.

    Raises:
        ValueError: it is none that could be shown safely; the message says why.
    """
    if not isinstance(data, str) or len(data) > 2 * MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except ValueError:
        raise ValueError("not base64") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow only warns of decompression bombs.
            # Reads the header only; the pixels are never decoded here.
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                (width, height), kind = image.size, (image.format or "").lower()
    except Exception:
        raise ValueError(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} × {height} pixels are too many")
    return content, kind
