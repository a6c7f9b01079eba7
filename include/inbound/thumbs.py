"""Pictures as we keep them: one JPEG of bounded size, named by its content.

The size, the quality and the white ground follow `pcapi/utils/image_conversion.py` of
https://github.com/pass-culture/pass-culture-main (pictures of products); refusing what is no picture, or would fill the
memory, is ours.
"""

from __future__ import annotations

import hashlib
import warnings
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from include.errors import BadImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""A poster at print size; decoded it takes 150 to 200 MB."""
LEAST_SIDE = 2
"""One pixel is how sites count visits, not a picture."""
BOX = (750, 1125)
QUALITY = 90
CONTENT_TYPE = "image/jpeg"


def normalise(raw: bytes) -> bytes:
    """A picture as a progressive RGB JPEG, upright, on white, without metadata; the same bytes for the same input.

    One that is wider than 750 pixels is fitted into 750 by 1125; of an animated one the first frame is taken. What it
    is, its content tells.

    Raises:
        BadImage: no picture of a known kind, too large, too small, or broken.
    """
    if not raw:
        raise BadImage("the picture is empty")
    if len(raw) > MAX_BYTES:
        raise BadImage(f"the picture has more than {MAX_BYTES // 1_000_000} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(raw), formats=FORMATS) as image:
                _check_size(*image.size)
                return _as_jpeg(_flat(ImageOps.exif_transpose(image)))
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise BadImage(f"it is no picture of a known kind ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise BadImage("the picture is broken", reason=f"{type(error).__name__}: {error}") from error


def content_key(data: bytes) -> str:
    """The key of a normalised picture in the object storage: the same content has the same key."""
    digest = hashlib.sha256(data).hexdigest()
    return f"thumbs/{digest[:2]}/{digest}.jpg"


_TOO_MANY_PIXELS = f"the picture has more than {MAX_PIXELS // 1_000_000} million pixels"


def _check_size(width: int, height: int) -> None:
    """Judge by the header's dimensions, before anything is decoded."""
    if width * height > MAX_PIXELS:
        raise BadImage(_TOO_MANY_PIXELS)
    if min(width, height) < LEAST_SIDE:
        raise BadImage(f"the picture has only {width} by {height} pixels")


def _flat(image: Image.Image) -> Image.Image:
    """The picture on white, in RGB, without what came with it."""
    flat = Image.new("RGB", image.size, "white")
    if image.mode.startswith("I"):  # 16 bits: convert would clip them instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 256) + 0).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        flat.paste(image, mask=image.getchannel("A"))
    else:
        flat.paste(image.convert("RGB"))
    return flat


def _as_jpeg(image: Image.Image) -> bytes:
    if image.width > BOX[0]:
        image.thumbnail(BOX, Image.Resampling.LANCZOS)
    data = BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return data.getvalue()
