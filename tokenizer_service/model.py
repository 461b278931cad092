"""The model as this service knows it: tokenizer, chat template, defaults, bounds, and its engine."""

from dataclasses import dataclass

from tandem_service.errors import RETRY_DELAY_S, UnavailableError, Violation, invalid
from tokenizer_service.answer import Prompt
from tokenizer_service.chat import ChatTemplate
from tokenizer_service.config import Limits
from tokenizer_service.engine_info import EngineInfo
from tokenizer_service.engine_session import EngineSession
from tokenizer_service.request import Chat, Input, Sampling
from tokenizer_service.tokenizer import Tokenizer
from tokenizer_service.vision import Vision


@dataclass(frozen=True)
class Model:
    """What requests are checked against and turned into tokens with.

    Attributes:
        name: Clients know the model by it.
        tokenizer: Encodes prompts.
        template: Renders chats.
        defaults: Sampling where a request is silent.
        limits: The bounds on a request.
        session: The engine.
        vision: How it takes images; None if its files say nothing about them.
    """

    name: str
    tokenizer: Tokenizer
    template: ChatTemplate
    defaults: Sampling
    limits: Limits
    session: EngineSession
    vision: Vision | None = None

    @property
    def info(self) -> EngineInfo:
        """What the engine last said about itself.

        Raises:
            UnavailableError: No engine has ever been there.
        """
        if self.session.info is None:
            raise UnavailableError("the engine is not there yet", retry_delay_s=RETRY_DELAY_S)
        return self.session.info

    @property
    def has_vision(self) -> bool:
        """Whether requests may carry images.

        Raises:
            UnavailableError: No engine has ever been there.
        """
        return self.vision is not None and self.info.has_vision

    async def encode(self, value: Input, *, add_special_tokens: bool = True) -> Prompt:
        """The prompt of a request's input; a chat has the special tokens that its template writes.

        Token ids stay as they are, and their text is left out.

        Raises:
            InvalidRequestError: The chat template refuses the chat.
        """
        if isinstance(value, tuple):
            return Prompt("", value)
        if isinstance(value, Chat):
            value, add_special_tokens = await self.template.render(value), False
            if not value:
                raise invalid(Violation("chat", "the chat template makes an empty prompt of it"))
        return Prompt(value, await self.tokenizer.encode(value, add_special_tokens=add_special_tokens))
