"""Images in the engine's protobuf messages, and what is wrong with them."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator

from engine_service.core_messages import EngineInfo, VisionInfo
from engine_service.image_ref import ImageRef
from tandem.engine.v1 import engine_pb2 as pb
from tandem_service.errors import InvalidRequestError, Violation, invalid

SHA256_BYTES = 32


def to_image_refs(images: Iterable[pb.ImageRange]) -> tuple[ImageRef, ...]:
    """The images of a prompt, in the order of their places."""
    refs = [ImageRef(image.sha256, image.start, image.length) for image in images]
    return tuple(sorted(refs, key=lambda each: each.start))


def image_violations(spec: pb.SequenceSpec, info: EngineInfo) -> Iterator[Violation]:
    """What is out of bounds in a sequence's images."""
    if not spec.images:
        return
    if info.vision is None:
        yield Violation("images", f"{len(spec.images)} images; this model takes none")
        return
    for index, image in enumerate(spec.images):
        yield from _range_violations(f"images[{index}]", image, spec, info.vision)
    yield from _overlaps(spec)
    count = len({image.sha256 for image in spec.images})
    if count > info.vision.max_images:
        yield Violation("images", f"{count} different images; at most {info.vision.max_images}")


def check_image(request: pb.PutImageRequest, pixels: bytes, info: EngineInfo) -> None:
    """Sees whether a request's pixels are what they are said to be.

    Raises:
        InvalidRequestError: They are not, or the model takes none.
    """
    if info.vision is None:
        raise invalid(Violation("pixels", f"{info.model} takes no images"))
    if violations := list(_pixel_violations(request, pixels, info.vision.image_size)):
        raise invalid(*violations)


def missing_images(spec: pb.SequenceSpec, missing: list[bytes]) -> InvalidRequestError:
    """The error of a sequence that cannot wait for its images."""
    indices = [index for index, image in enumerate(spec.images) if image.sha256 in missing]
    return invalid(
        *(
            Violation(f"images[{index}].sha256", "has no pixels here; send PutImage before")
            for index in indices
        )
    )


def _range_violations(
    field: str, image: pb.ImageRange, spec: pb.SequenceSpec, vision: VisionInfo
) -> Iterator[Violation]:
    num_prompt, end = len(spec.token_ids), image.start + image.length
    if len(image.sha256) != SHA256_BYTES:
        yield Violation(f"{field}.sha256", f"has {len(image.sha256)} bytes; a SHA-256 has {SHA256_BYTES}")
    if image.length != vision.num_features:
        yield Violation(f"{field}.length", f"{image.length}; an image has {vision.num_features} placeholders")
    elif end > num_prompt:
        yield Violation(f"{field}.start", f"{image.start}: ends at {end}, behind {num_prompt} prompt tokens")
    elif any(token != vision.image_token_id for token in spec.token_ids[image.start : end]):
        yield Violation(
            f"{field}.start", f"{image.start}: tokens up to {end} must all be {vision.image_token_id}"
        )


def _overlaps(spec: pb.SequenceSpec) -> Iterator[Violation]:
    order = sorted(range(len(spec.images)), key=lambda index: spec.images[index].start)
    for before, index in itertools.pairwise(order):
        first, second = spec.images[before], spec.images[index]
        if first.start + first.length > second.start:
            yield Violation(
                f"images[{index}].start",
                f"{second.start}: overlaps images[{before}], which ends at {first.start + first.length}",
            )


def _pixel_violations(request: pb.PutImageRequest, pixels: bytes, image_size: int) -> Iterator[Violation]:
    for name in ("height", "width"):
        if getattr(request, name) != image_size:
            yield Violation(name, f"{getattr(request, name)}; images of this model have {image_size}")
    num_bytes = request.height * request.width * 3
    if len(pixels) != num_bytes:
        shape = f"{request.height} rows of {request.width} pixels have {num_bytes}"
        yield Violation("pixels", f"has {len(pixels)} bytes; {shape}")
    if request.sha256 != (found := hashlib.sha256(pixels).digest()):
        yield Violation(
            "sha256", f"{request.sha256.hex()[:16]}… is not the pixels', which is {found.hex()[:16]}…"
        )
