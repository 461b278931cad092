"""The model's side of images: from a request's placeholders and files to spans of a prompt."""

from dataclasses import dataclass

from tandem_service.errors import InvalidRequestError, Violation, invalid
from tokenizer_service.answer import Prompt
from tokenizer_service.engine_info import ImageSpan
from tokenizer_service.image_loader import ImageLoader
from tokenizer_service.placeholders import expand, find
from tokenizer_service.request import Request, input_field


@dataclass(frozen=True)
class Vision:
    """How the model takes images.

    Attributes:
        token_id: The placeholder's id.
        token: Its text.
        num_tokens: Placeholders of one image.
        max_images: Images of one request.
        loader: Makes the pixels.
    """

    token_id: int
    token: str
    num_tokens: int
    max_images: int
    loader: ImageLoader

    def place(self, prompt: Prompt, request: Request) -> tuple[Prompt, tuple[int, ...]]:
        """The prompt with all placeholders, and where each of the request's images starts.

        Token ids come with all placeholders, as an echo has them; texts with one for each image.

        Raises:
            InvalidRequestError: There are not as many placeholders as images.
        """
        num_images = len(request.all_images)
        if isinstance(request.input, tuple):
            starts = find(prompt.token_ids, self.token_id, self.num_tokens)
            if starts is None or len(starts) != num_images:
                raise self._ids_mismatch(prompt, num_images)
            return prompt, starts
        count = prompt.token_ids.count(self.token_id)
        if count != num_images:
            field = input_field(request.input) if request.input is not None else "prompt"
            raise invalid(Violation(field, f"{count} {self.token} placeholders for {num_images} images"))
        return self._expanded(prompt)

    def expand(self, prompt: Prompt, field: str) -> Prompt:
        """The prompt of `field` with all placeholders, for as many images as it has room for.

        Raises:
            InvalidRequestError: There are too many.
        """
        count = prompt.token_ids.count(self.token_id)
        if count > self.max_images:
            raise invalid(Violation(field, f"{count} {self.token} placeholders; at most {self.max_images}"))
        return self._expanded(prompt)[0]

    async def spans(self, request: Request, starts: tuple[int, ...]) -> tuple[ImageSpan, ...]:
        """The pixels of a request's images with their places.

        Raises:
            InvalidRequestError: An image cannot be decoded or breaks a bound.
            NotFoundError: An image is named by a hash that is not known.
        """
        pixels = await self.loader.load(request.all_images)
        return tuple(
            ImageSpan(each, start, self.num_tokens) for each, start in zip(pixels, starts, strict=True)
        )

    def _expanded(self, prompt: Prompt) -> tuple[Prompt, tuple[int, ...]]:
        ids, starts = expand(prompt.token_ids, self.token_id, self.num_tokens)
        return Prompt(prompt.text, ids), starts

    def _ids_mismatch(self, prompt: Prompt, num_images: int) -> InvalidRequestError:
        num_ids = prompt.token_ids.count(self.token_id)
        counts = f"{num_ids} placeholder ids {self.token_id} for {num_images} images"
        return invalid(Violation("token_ids", f"{counts}; each image needs {self.num_tokens} in one run"))
