"""Conversations to prompts, by the model's chat template."""

import inspect
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError

from tandem_service.errors import Violation, invalid
from tokenizer_service.request import Chat

# What a template may raise on data that it was not written for.
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class ChatTemplate:
    """Renders chats as transformers does: in its sandbox, with its extra functions."""

    def __init__(self, source: Any) -> None:
        """`source` is a transformers tokenizer."""
        self._source = source
        parameters = inspect.signature(source.apply_chat_template).parameters.values()
        self._reserved = {"messages", *(each.name for each in parameters)} - {"documents"}

    @property
    def exists(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._source.chat_template)

    def render(self, chat: Chat) -> str:
        """The prompt of a chat.

        Raises:
            InvalidRequestError: There is no template, or it refuses the chat.
        """
        if not self.exists:
            raise invalid(Violation("chat", "the model has no chat template; send a prompt"))
        self._check_variables(chat.template_variables)
        add_generation_prompt = chat.add_generation_prompt
        try:
            prompt = self._source.apply_chat_template(
                [{"role": message.role, "content": message.text} for message in chat.messages],
                tools=list(chat.tools) or None,
                add_generation_prompt=not chat.is_continued
                if add_generation_prompt is None
                else add_generation_prompt,
                continue_final_message=chat.is_continued,
                tokenize=False,
                **chat.template_variables,
            )
        except _TEMPLATE_FAULTS as error:
            raise invalid(Violation("chat", f"the chat template refuses it: {error}")) from None
        return str(prompt)

    def _check_variables(self, variables: Mapping[str, Any]) -> None:
        for name in variables:
            if name in self._reserved:
                raise invalid(Violation(f"chat.template_variables.{name}", "the name is reserved"))
