"""The client for an event loop."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from tandem import channel, decode, encode, status
from tandem.async_many import AnyIterable, AsyncResults
from tandem.async_stream import AsyncStream, closed, raise_unless_cancelling
from tandem.credentials import tls_credentials, token_metadata
from tandem.model import Model, Tokens
from tandem.request import ChatOptions, MessageLike, Options, Request, TemplateOptions
from tandem.result import Completion
from tandem.resumption import resumable
from tandem.retry import Deadline, Default, RetryPolicy, Timeout, chosen_limit_s, limit_s
from tandem.v1 import inference_pb2
from tandem.v1.inference_pb2_grpc import InferenceStub


class AsyncClient:
    """A connection to a Tandem service. One instance serves any number of tasks of one event loop.

    Methods, settings and errors are those of `Client`.

    Example:
        >>> import asyncio, tandem
        >>> async def main() -> None:
        ...     async with tandem.AsyncClient("127.0.0.1:50051") as client:
        ...         first, second = await asyncio.gather(
        ...             client.generate("one"), client.chat([{"role": "user", "content": "two"}])
        ...         )
        ...         print(first.text, second.text)
        >>> asyncio.run(main())
        one . two .
    """

    def __init__(
        self,
        target: str = channel.DEFAULT_TARGET,
        *,
        timeout: float | None = 60.0,
        generate_timeout: float | None = 600.0,
        retries: int = 2,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: channel.ChannelOptions = (),
    ) -> None:
        """Connects with the first call, to whose event loop it then belongs; arguments as for `Client`.

        Raises:
            ValueError: The target or the token is malformed, a timeout is NaN, retries is negative, or a
                file cannot be read.
        """
        channel.resolve(target)
        self._target = target
        self._timeout_s = limit_s("timeout", timeout)
        self._generate_timeout_s = limit_s("generate_timeout", generate_timeout)
        self._policy = RetryPolicy(retries)
        self._metadata = token_metadata(token)
        self._credentials = credentials or tls_credentials(tls_ca, tls_cert, tls_key)
        self._options = options
        self._channel: grpc.aio.Channel | None = None
        self._stub_of_channel: Any = None

    async def generate(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[Options],
    ) -> Completion:
        """Continues a prompt, and waits for the whole answer; see `Client.generate`."""
        return await self.stream(prompt, token_ids=token_ids, timeout=timeout, **options).completion()

    def stream(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """Continues a prompt, and gives the answer as it grows; see `Client.generate`.

        Example:
            >>> import asyncio, tandem
            >>> async def main() -> None:
            ...     async with tandem.AsyncClient("127.0.0.1:50051") as client:
            ...         async with client.stream("one two", max_tokens=3) as stream:
            ...             async for text in stream.texts():
            ...                 print(repr(text))
            >>> asyncio.run(main())
            'one'
            ' two'
            ' .'
        """
        request = Request(prompt=prompt, token_ids=token_ids, **options)
        return self._start(request, timeout)

    async def chat(
        self,
        messages: Sequence[MessageLike],
        *,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[ChatOptions],
    ) -> Completion:
        """Answers a chat, and waits for the whole answer; see `Client.chat`."""
        return await self.stream_chat(messages, timeout=timeout, **options).completion()

    def stream_chat(
        self,
        messages: Sequence[MessageLike],
        *,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[ChatOptions],
    ) -> AsyncStream:
        """Answers a chat, and gives the answer as it grows; see `Client.chat`."""
        return self._start(Request(messages=messages, **options), timeout)

    def generate_many(
        self, requests: AnyIterable, *, max_running: int = 64, timeout: float | None = None
    ) -> AsyncResults:
        """Runs many requests, of an iterable or an async iterable, on one stream.

        See `Client.generate_many`.

        Example:
            >>> import asyncio, tandem
            >>> async def main() -> None:
            ...     async with tandem.AsyncClient("127.0.0.1:50051") as client:
            ...         texts = {}
            ...         async for result in client.generate_many(["one", "two"]):
            ...             texts[result.index] = result.unwrap().text
            ...         print(texts[0], texts[1])
            >>> asyncio.run(main())
            one . two .
        """
        call = self._stub().GenerateMany(timeout=limit_s("timeout", timeout), metadata=self._metadata)
        return AsyncResults(requests, call, max_running, self.models)

    async def tokenize(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        model: str | None = None,
        add_special_tokens: bool | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **template: Unpack[TemplateOptions],
    ) -> Tokens:
        """The tokens of a text or a chat; see `Client.tokenize`."""
        message = encode.tokenize_request(text, messages, model, add_special_tokens, template)
        return decode.tokens(await self._call(self._stub().Tokenize, message, timeout))

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str | None = None,
        special_tokens: bool | None = None,
        timeout: Timeout = Default.TIMEOUT,
    ) -> str:
        """The text of some tokens; see `Client.detokenize`."""
        message = encode.detokenize_request(token_ids, model, special_tokens)
        response: inference_pb2.DetokenizeResponse = await self._call(
            self._stub().Detokenize, message, timeout
        )
        return response.text

    async def models(self, *, timeout: Timeout = Default.TIMEOUT) -> tuple[Model, ...]:
        """The models that the service answers for, with their limits."""
        message = inference_pb2.ListModelsRequest()
        return decode.models(await self._call(self._stub().ListModels, message, timeout))

    async def close(self) -> None:
        """Closes the connection; calls that still run raise `RequestCancelledError`.

        A later call connects again.
        """
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _stub(self) -> Any:
        """The channel is opened with the first call: before, there may be no event loop to open it in."""
        if self._channel is None:
            self._channel = channel.open_async_channel(self._target, self._credentials, self._options)
            self._stub_of_channel = InferenceStub(self._channel)
        return self._stub_of_channel

    def _start(self, request: Request, timeout: Timeout) -> AsyncStream:
        if request.linger is not None:
            request = resumable(request)
        message = encode.generate_request(request)
        timeout_s = chosen_limit_s(timeout, self._generate_timeout_s)
        stub = self._stub()

        def start(remaining_s: float | None, after_tokens: int) -> Any:
            if after_tokens:
                message.resume.after_tokens = after_tokens
            metadata = (*(self._metadata or ()), *encode.metadata(request))
            try:
                return stub.Generate(message, timeout=remaining_s, metadata=metadata)
            except grpc.aio.UsageError:  # closed before this attempt
                raise closed() from None

        return AsyncStream(request, start, timeout_s, self._policy)

    async def _call(self, method: Callable[..., Any], message: Any, timeout: Timeout) -> Any:
        """Makes a call that changes nothing, and may therefore be repeated."""
        deadline = Deadline(chosen_limit_s(timeout, self._timeout_s))
        for attempt in range(self._policy.retries + 1):
            try:
                return await method(message, timeout=deadline.remaining_s(), metadata=self._metadata)
            except grpc.RpcError as rpc_error:
                error = status.from_rpc_error(rpc_error)
            except asyncio.CancelledError:
                raise_unless_cancelling()
                raise
            except grpc.aio.UsageError:  # closed before this attempt
                raise closed() from None
            delay_s = self._policy.delay_s(error, attempt, deadline)
            if delay_s is None:
                break
            await asyncio.sleep(delay_s)
        raise error
