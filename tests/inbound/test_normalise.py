"""Pictures of every kind become one kind, and what is none is refused."""

from io import BytesIO

import pytest
from PIL import Image, ImageCms

from include.errors import BadImage
from include.inbound import images
from include.inbound.images import content_key, normalise
from tests.inbound.pictures import encoded, png_of


def noise(size=(40, 60), mode="RGB"):
    return Image.effect_noise(size, 80).convert(mode)


def shown(raw):
    image = Image.open(BytesIO(normalise(raw)))
    image.load()
    assert (image.format, image.mode, image.info.get("progressive")) == ("JPEG", "RGB", 1)
    return image


def near(pixel, wanted):
    return all(abs(a - b) <= 6 for a, b in zip(pixel, wanted, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_every_kind(kind):
    assert shown(encoded(noise(), kind)).size == (40, 60)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((750, 900), (750, 900)),
        ((751, 751), (750, 750)),
        ((1500, 4500), (375, 1125)),
        ((3000, 10), (750, 3)),
        ((2, 2), (2, 2)),
        ((700, 2000), (700, 2000)),
    ],
)
def test_the_size(size, wanted):
    assert shown(encoded(Image.new("RGB", size, "red"))).size == wanted


def test_it_is_turned_upright_and_loses_what_came_with_it():
    image = Image.new("RGB", (60, 40), "white")
    image.paste("red", (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    exif[0x010F] = "the camera of Jane Doe"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    raw = encoded(image, "JPEG", exif=exif, comment=b"taken at home", icc_profile=profile, dpi=(300, 300))
    result = shown(raw)
    assert result.size == (40, 60)
    assert near(result.getpixel((20, 5)), (254, 0, 0))
    assert near(result.getpixel((20, 55)), (255, 255, 255))
    assert not result.getexif()
    assert not {"comment", "icc_profile", "exif", "dpi"} & result.info.keys()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (20, 20), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        raw = encoded(image, "PNG", transparency=0)
    else:
        raw = encoded(image.convert(mode))
    assert near(shown(raw).getpixel((10, 10)), (255, 255, 255))


def test_half_transparent_is_mixed_with_white():
    raw = encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 128)))
    assert near(shown(raw).getpixel((10, 10)), (255, 127, 127))


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (encoded(Image.new("L", (8, 8), 90)), (90, 90, 90)),
        (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
        (encoded(Image.new("I;16", (8, 8), 100 * 256)), (100, 100, 100)),
        (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
        (encoded(Image.new("RGB", (8, 8), (10, 200, 30)).quantize(), "PNG"), (10, 200, 30)),
    ],
    ids=["grey", "black and white", "16 bits", "CMYK", "palette"],
)
def test_every_mode(raw, wanted):
    assert near(shown(raw).getpixel((4, 4)), wanted)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_one_the_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert near(shown(raw).getpixel((4, 4)), (254, 0, 0))


def test_same_bytes_for_the_same_picture():
    raw = encoded(noise((900, 900)))
    assert normalise(raw) == normalise(raw)
    key = content_key(normalise(raw))
    assert key.startswith(f"thumbs/{key[10:12]}/")
    assert key.endswith(".jpg")
    assert content_key(b"other") != key


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the image is empty"),
        (b"<html>404</html>", "it is not an image in a known format (JPEG, PNG, WEBP, GIF, AVIF)"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "it is not an image in a known format (JPEG, PNG, WEBP, GIF, AVIF)"),
        (encoded(noise(), "BMP"), "it is not an image in a known format (JPEG, PNG, WEBP, GIF, AVIF)"),
        (encoded(noise(), "TIFF"), "it is not an image in a known format (JPEG, PNG, WEBP, GIF, AVIF)"),
        *((png_of(side, side), "the image has more than 50 million pixels") for side in (8000, 12_000, 60_000)),
        (png_of(1, 500), "the image has only 1 by 500 pixels"),
        (png_of(500, 500), "the image is broken"),
    ],
)
def test_refused(raw, reason, monkeypatch):
    if "50 million" in reason:
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage) as refused:
        normalise(raw)
    assert refused.value.message == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.9])
def test_truncated_ones_are_refused(kind, share):
    raw = encoded(noise((200, 200)), kind)
    with pytest.raises(BadImage):
        normalise(raw[: int(len(raw) * share)])


def test_too_many_bytes(monkeypatch):
    raw = encoded(noise((200, 200)))
    monkeypatch.setattr(images, "MAX_BYTES", len(raw))
    normalise(raw)
    monkeypatch.setattr(images, "MAX_BYTES", len(raw) - 1)
    with pytest.raises(BadImage, match="more than"):
        normalise(raw)
