"""Conversations to prompts, by the model's chat template."""

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import transformers
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from tandem_service.errors import Violation, invalid
from tokenizer_service.request import Chat, ChatMessage
from tokenizer_service.template_budget import BudgetError, limited
from tokenizer_service.template_sandbox import BoundedEnvironment

# What a template may raise on data that it was not written for, or that was written against it.
_TEMPLATE_FAULTS = (
    TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
    MemoryError, RecursionError,
)  # fmt: skip
_MAX_FAULT_CHARS = 500
# A short chat renders in well under a millisecond, which is not worth a thread's wake-up. What takes
# longer than this is rendered again, in a thread.
_INLINE_S = 0.01
_INLINE_MESSAGES = 32
_INLINE_CHARS = 20_000
# More would only take the interpreter from each other.
_NUM_THREADS = 2


class ChatTemplate:
    """Renders chats as transformers does, with its extra functions, in a sandbox that is bounded."""

    def __init__(self, source: Any, image_token: str = "", timeout_s: float = 2.0) -> None:
        """Makes transformers compile templates in our sandbox.

        Args:
            source: A transformers tokenizer.
            image_token: The text of a model's image placeholder.
            timeout_s: How long one rendering may take.

        Raises:
            ValueError: This version of transformers compiles templates elsewhere.
        """
        if not hasattr(chat_template_utils, "ImmutableSandboxedEnvironment"):
            raise ValueError(f"transformers {transformers.__version__}: its chat templates cannot be bounded")
        chat_template_utils.ImmutableSandboxedEnvironment = BoundedEnvironment
        self._source = source
        self._image_token = image_token
        self._timeout_s = timeout_s
        self._takes_parts = bool(image_token) and self._finds_parts()
        self._threads: Executor = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="template")
        parameters = inspect.signature(source.apply_chat_template).parameters.values()
        self._reserved = {"messages", *(each.name for each in parameters)} - {"documents"}

    @property
    def exists(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._source.chat_template)

    async def render(self, chat: Chat) -> str:
        """The prompt of a chat. The event loop waits for short chats only.

        Raises:
            InvalidRequestError: There is no template, it refuses the chat, or takes too long for it.
        """
        if not self.exists:
            raise invalid(Violation("chat", "the model has no chat template; send a prompt"))
        self._check_variables(chat.template_variables)
        try:
            if _is_short(chat) and self._timeout_s > _INLINE_S:
                with contextlib.suppress(BudgetError):
                    return self._render(chat, _INLINE_S)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._render, chat, self._timeout_s)
        except _TEMPLATE_FAULTS as error:
            reason = str(error)[:_MAX_FAULT_CHARS]
            raise invalid(Violation("chat", f"the chat template refuses it: {reason}")) from None

    def _render(self, chat: Chat, timeout_s: float) -> str:
        add_generation_prompt = chat.add_generation_prompt
        content = self._content
        with limited(timeout_s):
            prompt = self._source.apply_chat_template(
                [{"role": message.role, "content": content(message)} for message in chat.messages],
                tools=list(chat.tools) or None,
                add_generation_prompt=not chat.is_continued
                if add_generation_prompt is None
                else add_generation_prompt,
                continue_final_message=chat.is_continued,
                tokenize=False,
                **chat.template_variables,
            )
        return str(prompt)

    def _content(self, message: ChatMessage) -> Any:
        """A message for the template: a list of parts where the template reads those, else a text.

        In a text, an image is its placeholder and a line break, as LLaVA was trained.
        """
        if not self._image_token:
            return message.text
        if self._takes_parts:
            return _merged(message)
        return "".join(part if isinstance(part, str) else f"{self._image_token}\n" for part in message.parts)

    def _finds_parts(self) -> bool:
        """Whether the template finds the image in a list of parts, and does not print the list."""
        parts = [{"type": "image"}, {"type": "text", "text": "words"}]
        try:
            with limited(self._timeout_s):
                prompt = str(
                    self._source.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
                )
        except _TEMPLATE_FAULTS:
            return False
        return self._image_token in prompt and "'type'" not in prompt

    def _check_variables(self, variables: Mapping[str, Any]) -> None:
        for name in variables:
            if name in self._reserved:
                raise invalid(Violation(f"chat.template_variables.{name}", "the name is reserved"))


def _is_short(chat: Chat) -> bool:
    has_more = chat.tools or chat.template_variables or len(chat.messages) > _INLINE_MESSAGES
    return not has_more and sum(len(message.text) for message in chat.messages) < _INLINE_CHARS


def _merged(message: ChatMessage) -> list[dict[str, str]]:
    """The parts as transformers' templates read them; texts beside each other are one."""
    parts: list[dict[str, str]] = []
    for is_text, run in itertools.groupby(message.parts, lambda part: isinstance(part, str)):
        if is_text:
            parts.append({"type": "text", "text": "".join(part for part in run if isinstance(part, str))})
        else:
            parts += [{"type": "image"} for _ in run]
    return parts
