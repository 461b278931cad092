"""Pictures to pixels, bit for bit as transformers' CLIP and LLaVA processors make them on Pillow."""

import io
import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from tokenizer_service.image_file import ImageBounds, ImageError, open_rgb
from tokenizer_service.image_processor import ImageProcessor
from tokenizer_service.partial_resize import resize_part, spans
from tokenizer_service.resampling import resample_rows

BOUNDS = ImageBounds(max_bytes=10**7, max_pixels=2**25, max_side=2**15)
# width x height
SIZES = [
    (1, 1), (1, 2), (2, 1), (1, 90), (90, 1), (3, 999), (336, 336), (337, 336), (336, 337), (335, 334),
    (640, 480), (480, 640), (1000, 333), (333, 1000), (224, 224), (31, 1700), (1700, 31),
]  # fmt: skip
RAW = {"do_rescale": False, "do_normalize": False}


def noise(width, height, channels=3, seed=0):
    generator = np.random.default_rng([seed, width, height])
    shape = (height, width) if channels == 1 else (height, width, channels)
    return generator.integers(0, 256, shape, np.uint8)


def array_of(pixels):
    return np.frombuffer(pixels.data, np.uint8).reshape(pixels.height, pixels.width, 3)


def clip(image, side, **changes):
    fields = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, **RAW, **changes}
    (pixels,) = CLIPImageProcessorPil(**fields)(image, return_tensors=None)["pixel_values"]
    return pixels.transpose(1, 2, 0)


def llava_padded(image, side):
    fields = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, **RAW}
    (pixels,) = LlavaImageProcessorPil(**fields, do_pad=True)(image, return_tensors=None)["pixel_values"]
    return pixels.transpose(1, 2, 0)


@pytest.mark.parametrize("side", [336, 48])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pixels_are_clips(size, side):
    image = Image.fromarray(noise(*size))
    found = ImageProcessor(shortest_edge=side, crop=(side, side)).process(image)
    assert np.array_equal(array_of(found), clip(image, side))


# Beside the sizes above: those whose columns are resized in strips, and some that must not be.
@pytest.mark.parametrize(
    "size",
    [
        (1024, 768), (1200, 800), (800, 800), (1000, 500), (641, 427), (768, 1024), (432, 940), (1345, 337),
        (400, 799), (400, 800), (400, 801), (799, 400), (800, 400), (801, 400), (400, 1600), (1600, 400),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("resample", [2, 3, 1])
def test_pixels_made_in_strips_are_clips(size, resample):
    image = Image.fromarray(noise(*size))
    processor = ImageProcessor(shortest_edge=336, crop=(336, 336), resample=resample)
    with ThreadPoolExecutor(2) as threads:
        found = processor.process(image, threads.map)
    assert np.array_equal(array_of(found), clip(image, 336, resample=resample))


def test_random_sizes_in_strips_are_pillows():
    rng = random.Random(7)
    for _ in range(40):
        ratio, scale = rng.choice([(4, 3), (3, 2), (1, 1), (16, 9), (7, 5)]), rng.randint(20, 140)
        image = Image.fromarray(noise(ratio[0] * scale, ratio[1] * scale))
        height, width = 96, int(96 * image.width / image.height)
        whole = np.asarray(image.resize((width, height), resample=Image.Resampling.BICUBIC))
        left = rng.randint(0, width - 96)
        found = resize_part(image, (height, width), (3, left), (90, 96), 3)
        assert np.array_equal(found, whole[3:93, left : left + 96])


# Rows and columns of what becomes of 448 rows and 640 columns. Pillow 13 begins with the columns where the
# rows become fewer by more than twice what the columns do; strips, which begin with the rows, would differ.
STRETCHED = {
    "in-proportion": (224, 320),
    "as-many-fewer": (128, 320),
    "twice-as-many-fewer": (128, 480),
    "one-more-than-twice": (127, 480),
    "fewer-rows-only": (224, 640),
    "fewer-rows-more-columns": (224, 960),
    "fewer-columns-only": (448, 320),
    "more-rows-fewer-columns": (672, 320),
    "more-of-both": (672, 960),
}


@pytest.mark.parametrize("size", STRETCHED.values(), ids=STRETCHED)
@pytest.mark.parametrize("is_turned", [False, True], ids=["wide", "tall"])
def test_parts_of_stretched_pictures_are_pillows(size, is_turned):
    rows, columns = size[::-1] if is_turned else size
    image = Image.fromarray(noise(448, 640) if is_turned else noise(640, 448))
    whole = np.asarray(image.resize((columns, rows), resample=Image.Resampling.BICUBIC))
    found = resize_part(image, (rows, columns), (4, 16), (rows - 8, columns - 32), 3)
    assert np.array_equal(found, whole[4 : rows - 4, 16 : columns - 16])


STRIPS = {
    "one": ((640, 448, 56, 336, 3, 1), ((56, 392),)),
    "three": ((640, 448, 56, 336, 3, 3), ((56, 168), (168, 280), (280, 392))),
    "rounded-outwards": ((640, 448, 60, 300, 3, 2), ((56, 210), (210, 364))),
    "no-place-between-pixels": ((641, 449, 56, 336, 3, 3), ((0, 449),)),
    "unknown-filter": ((640, 448, 56, 336, 1, 3), ((0, 448),)),
}


@pytest.mark.parametrize(
    ("axis", "found"),
    STRIPS.values(),
    ids=STRIPS,
)
def test_strips_begin_and_end_between_pixels(axis, found):
    assert spans(*axis) == found


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (7, 4000), (4000, 7)], ids=str)
def test_very_thin_pictures_are_clips_without_their_memory(size):
    image = Image.fromarray(noise(*size))
    found = ImageProcessor(shortest_edge=48, crop=(48, 48)).process(image)
    assert np.array_equal(array_of(found), clip(image, 48))
    full = ImageProcessor(shortest_edge=336, crop=(336, 336)).process(image)
    assert (full.height, full.width) == (336, 336)


# So long that what the crop cuts off is not computed where the picture is enlarged. Where a tall one shrinks,
# Pillow 13 begins with its columns. Beside 336: just enlarged, kept, and just shrunk.
@pytest.mark.parametrize(
    "size",
    [
        (335, 12600), (336, 12600), (337, 12600), (12600, 335), (12600, 336), (12600, 337),
        (350, 14000), (400, 16000), (16000, 400), (700, 30000), (300, 12000), (12000, 300),
    ],
    ids=str,
)  # fmt: skip
def test_long_pictures_are_clips_whether_enlarged_or_shrunk(size):
    image = Image.fromarray(noise(*size))
    found = ImageProcessor(shortest_edge=336, crop=(336, 336)).process(image)
    assert np.array_equal(array_of(found), clip(image, 336))


@pytest.mark.parametrize("size", [(335, 12600), (12600, 335), (400, 16000)], ids=str)
def test_crops_wider_than_long_pictures_are_clips(size):
    image, crop = Image.fromarray(noise(*size)), {"height": 340, "width": 350}
    found = ImageProcessor(shortest_edge=336, crop=(340, 350)).process(image)
    assert np.array_equal(array_of(found), clip(image, 336, crop_size=crop))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (337, 336), (333, 1000), (640, 480)], ids=str)
def test_padded_pixels_are_llavas(size):
    image = Image.fromarray(noise(*size))
    processor = ImageProcessor(background=(122, 116, 104), shortest_edge=336, crop=(336, 336))
    assert np.array_equal(array_of(processor.process(image)), llava_padded(image, 336))


@pytest.mark.parametrize(
    ("processor", "fields"),
    [
        (ImageProcessor(shortest_edge=20, crop=(30, 25)), {"size": {"shortest_edge": 20}}),
        (ImageProcessor(resize_to=(33, 18), crop=(30, 25)), {"size": {"height": 33, "width": 18}}),
        (ImageProcessor(crop=(30, 25)), {"do_resize": False}),
        (ImageProcessor(shortest_edge=224, resample=2, crop=(30, 25)), {"resample": 2}),
        (ImageProcessor(shortest_edge=224, resample=1, crop=(30, 25)), {"resample": 1}),
        (ImageProcessor(resize_to=(30, 25)), {"size": {"height": 30, "width": 25}, "do_center_crop": False}),
    ],
    ids=["crop-above-resize", "stretch", "no-resize", "bilinear", "lanczos", "no-crop"],
)  # fmt: skip
@pytest.mark.parametrize("size", [(41, 29), (13, 57)], ids=str)
def test_other_settings_are_clips_too(processor, fields, size):
    image = Image.fromarray(noise(*size))
    expected = clip(image, 224, crop_size={"height": 30, "width": 25}, **fields)
    assert np.array_equal(array_of(processor.process(image)), expected)


def test_some_rows_of_a_long_result_are_pillows():
    rng = random.Random(5)
    for _ in range(60):
        height, width, num_rows = rng.randint(1, 60), rng.randint(1, 9), rng.randint(1, 300)
        image = Image.fromarray(noise(width, height, seed=rng.randint(0, 999)))
        resample = rng.choice([2, 3])
        count = rng.randint(1, num_rows)
        first = rng.randint(0, num_rows - count)
        whole = np.asarray(image.resize((width, num_rows), resample=Image.Resampling(resample)))
        found = resample_rows(np.asarray(image), num_rows, first, count, resample)
        assert np.array_equal(found, whole[first : first + count])


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey16():
    return Image.fromarray((np.arange(48 * 60, dtype=np.uint16) * 22).reshape(48, 60))


def palette(**info):
    image = Image.fromarray(noise(60, 48)).quantize(16)
    image.info.update(info)
    return image


FILES = {
    "png": encoded(Image.fromarray(noise(60, 48)), "PNG"),
    "jpeg": encoded(Image.fromarray(noise(60, 48)), "JPEG"),
    "jpeg-progressive": encoded(Image.fromarray(noise(60, 48)), "JPEG", progressive=True),
    "jpeg-cmyk": encoded(Image.fromarray(noise(60, 48)).convert("CMYK"), "JPEG"),
    "jpeg-grey": encoded(Image.fromarray(noise(60, 48, 1)), "JPEG"),
    "webp": encoded(Image.fromarray(noise(60, 48)), "WEBP"),
    "webp-lossless-alpha": encoded(Image.fromarray(noise(60, 48, 4)), "WEBP", lossless=True),
    "gif": encoded(Image.fromarray(noise(60, 48)), "GIF"),
    "gif-animated": encoded(
        Image.fromarray(noise(60, 48)),
        "GIF",
        save_all=True,
        append_images=[Image.fromarray(noise(60, 48, seed=1))],
    ),
    "bmp": encoded(Image.fromarray(noise(60, 48)), "BMP"),
    "rgba": encoded(Image.fromarray(noise(60, 48, 4)), "PNG"),
    "grey": encoded(Image.fromarray(noise(60, 48, 1)), "PNG"),
    "grey-alpha": encoded(Image.fromarray(noise(60, 48, 4)).convert("LA"), "PNG"),
    "bilevel": encoded(Image.fromarray(noise(60, 48, 1)).convert("1"), "PNG"),
    "palette": encoded(palette(), "PNG"),
    "palette-transparent": encoded(palette(), "PNG", transparency=3),
    "palette-alphas": encoded(palette(), "PNG", transparency=bytes(range(0, 160, 10))),
    "rgb-transparent": encoded(
        Image.fromarray(noise(60, 48)), "PNG", transparency=tuple(noise(60, 48)[0, 0].tolist())
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_files_of_every_format_and_mode_are_clips(data):
    found = ImageProcessor(shortest_edge=48, crop=(48, 48)).process(open_rgb(data, BOUNDS))
    assert np.array_equal(array_of(found), clip(Image.open(io.BytesIO(data)), 48))


def test_sixteen_bits_lose_the_lower_eight():
    grey = np.asarray(open_rgb(encoded(grey16(), "PNG"), BOUNDS))
    expected = np.asarray(grey16()) >> 8
    assert len(np.unique(expected)) > 200
    assert np.array_equal(grey, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_turned_as_their_exif_says(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise(30, 20)), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected.size == ((30, 20) if orientation < 5 else (20, 30))
    assert np.array_equal(np.asarray(open_rgb(data, BOUNDS)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_turns_nothing():
    data = encoded(Image.fromarray(noise(30, 20)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_rgb(data, BOUNDS).size == (30, 20)


def bomb():
    """A PNG that says 60,000 x 60,000 and holds nothing."""
    data = bytearray(encoded(Image.new("1", (1, 1)), "PNG"))
    data[16:24] = (60_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    return bytes(data)


FORMATS = ("png", "jpeg", "webp", "gif", "bmp")
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am no image at all", "27 bytes are no PNG, JPEG, WebP, GIF or BMP file"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG"),
    "tiff": (encoded(Image.new("RGB", (4, 4)), "TIFF"), "no PNG"),
    "ppm": (encoded(Image.new("RGB", (4, 4)), "PPM"), "no PNG"),
    "bomb": (bomb(), "60000 x 60000 pixels; no side may be longer than 32768"),
    "too-many-pixels": (encoded(Image.new("1", (6000, 6000)), "PNG"), "= 36000000 pixels; at most 33554432"),
    "too-many-bytes": (b"x" * (10**7 + 1), "has 10000001 bytes; at most 10000000"),
    "too-many-scans": (
        FILES["jpeg-progressive"][:-2] + FILES["jpeg-progressive"][-400:-2] * 300 + b"\xff\xda" * 100,
        "scans; at most 100",
    ),
    "too-long": (encoded(Image.new("1", (32769, 1)), "PNG"), "no side may be longer than 32768"),
    **{f"cut-{name}": (FILES[name][: len(FILES[name]) // 2], "") for name in FORMATS},
    **{f"head-{name}": (FILES[name][:20], "") for name in FORMATS},
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_what_is_no_image_is_refused_with_its_bound(data, said):
    with pytest.raises(ImageError) as caught:
        open_rgb(data, BOUNDS)
    assert said in str(caught.value)
