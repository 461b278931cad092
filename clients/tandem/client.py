"""The client for threads."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from tandem import decode, encode, status
from tandem.channel import DEFAULT_TARGET, ChannelOptions, open_channel
from tandem.credentials import tls_credentials, token_metadata
from tandem.many import Results
from tandem.model import Model, Tokens
from tandem.request import ChatOptions, MessageLike, Options, Request, TemplateOptions
from tandem.result import Completion
from tandem.resumption import resumable
from tandem.retry import Deadline, Default, RetryPolicy, Timeout, chosen_limit_s, limit_s
from tandem.stream import Stream
from tandem.v1 import inference_pb2
from tandem.v1.inference_pb2_grpc import InferenceStub


class Client:
    """A connection to a Tandem service. One instance serves any number of threads.

    Every method raises a `TandemError`: `InvalidRequestError` names the wrong fields,
    `OverloadedError` carries the delay that the service asks for, `UnavailableError` says that
    nothing answers, `DeadlineExceededError` that the timeout passed. Settings of a request are keyword
    arguments; `Request` lists them with their bounds.

    Example:
        >>> import tandem
        >>> with tandem.Client("127.0.0.1:50051") as client:
        ...     completion = client.generate("one two", max_tokens=3)
        >>> completion.text
        'one two .'
        >>> completion.finish_reason
        <FinishReason.LENGTH: 'length'>
        >>> completion.usage.completion_tokens
        3
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float | None = 60.0,
        generate_timeout: float | None = 600.0,
        retries: int = 2,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
    ) -> None:
        """Connects with the first call.

        Args:
            target: `HOST:PORT` (all addresses of the host take turns), `unix:PATH`, or a gRPC name.
            timeout: Default limit of `tokenize`, `detokenize` and `models`, in seconds; None for none.
            generate_timeout: Default limit of `generate`, `stream`, `chat` and `stream_chat`, in
                seconds; None for none.
            retries: How often a call is made again that failed before it answered anything, because
                the service was unavailable or asked for a later retry; with growing delays, and within
                the timeout. A request with `linger` is also gone on with as often, counted anew
                whenever something came.
            tls_ca: PEM file of the roots that the service's certificate is checked against; None for
                plain text. Files are read once, here.
            tls_cert: PEM file of the certificate that the client shows, where the service wants one.
            tls_key: PEM file of that certificate's private key.
            token: Shown with every call. In plain text, everybody on the way can read it.
            credentials: TLS in gRPC's own terms, in place of the three files.
            options: gRPC channel arguments, in place of the client's own.

        Raises:
            ValueError: The target or the token is malformed, a timeout is NaN, retries is negative, or a
                file cannot be read.
        """
        self._timeout_s = limit_s("timeout", timeout)
        self._generate_timeout_s = limit_s("generate_timeout", generate_timeout)
        self._policy = RetryPolicy(retries)
        self._metadata = token_metadata(token)
        tls = tls_credentials(tls_ca, tls_cert, tls_key)
        self._channel = open_channel(target, credentials or tls, options)
        self._stub = InferenceStub(self._channel)

    def generate(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[Options],
    ) -> Completion:
        """Continues a prompt, given as text or as token ids, and waits for the whole answer.

        Args:
            prompt: Text.
            token_ids: Token ids, in place of text.
            timeout: Limit in seconds; None for none. Default: the client's.
            **options: Settings; see `Request`.

        Returns:
            The n answers.
        """
        return self.stream(prompt, token_ids=token_ids, timeout=timeout, **options).completion()

    def stream(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[Options],
    ) -> Stream:
        """Continues a prompt, and gives the answer as it grows; arguments as for `generate`.

        Example:
            >>> import tandem
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     for event in client.stream("one two", max_tokens=3):
            ...         if isinstance(event, tandem.Delta):
            ...             print(repr(event.text))
            'one'
            ' two'
            ' .'
        """
        request = Request(prompt=prompt, token_ids=token_ids, **options)
        return self._start(request, timeout)

    def chat(
        self,
        messages: Sequence[MessageLike],
        *,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[ChatOptions],
    ) -> Completion:
        """Answers a chat, and waits for the whole answer.

        Args:
            messages: The turns, oldest first: `Message` objects, or dictionaries with the keys `role`
                and `content`, whose content is text or a list of texts and `Image` objects.
            timeout: Limit in seconds; None for none. Default: the client's.
            **options: Settings; see `Request`.

        Example:
            >>> import tandem
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     client.chat([{"role": "user", "content": "Hello there"}]).text
            'Hello there .'
            >>> photo = tandem.image(b"the bytes of a file, or its path")
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     client.chat([{"role": "user", "content": ["What is this?", photo]}]).text
            'What is this? .'
        """
        return self.stream_chat(messages, timeout=timeout, **options).completion()

    def stream_chat(
        self,
        messages: Sequence[MessageLike],
        *,
        timeout: Timeout = Default.TIMEOUT,
        **options: Unpack[ChatOptions],
    ) -> Stream:
        """Answers a chat, and gives the answer as it grows; arguments as for `chat`.

        Example:
            >>> import tandem
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     with client.stream_chat([tandem.Message("user", "Hello there")]) as stream:
            ...         print("".join(stream.texts()))
            Hello there .
        """
        return self._start(Request(messages=messages, **options), timeout)

    def generate_many(
        self,
        requests: Iterable[str | Request],
        *,
        max_running: int = 64,
        timeout: float | None = None,
    ) -> Results:
        """Runs many requests on one stream.

        Results come in the order in which requests end; `Result.index` is the request's place. A
        request that fails does not disturb the others: its `Result` has the error. Nothing is retried.

        Args:
            requests: Prompts and `Request` objects; read as places become free.
            max_running: The most requests that run at once.
            timeout: Limit for all of them together, in seconds; None for none.

        Example:
            >>> import tandem
            >>> requests = ["one", tandem.Request("two", max_tokens=-1), tandem.Request("three")]
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     results = sorted(client.generate_many(requests), key=lambda result: result.index)
            >>> for result in results:
            ...     print(result.error or result.completion.text)
            one .
            INVALID_ARGUMENT: stop.max_tokens: -1 is less than 1
            three .
        """

        def start(commands: Iterator[inference_pb2.GenerateManyRequest]) -> Any:
            timeout_s = limit_s("timeout", timeout)
            return self._stub.GenerateMany(commands, timeout=timeout_s, metadata=self._metadata)

        return Results(requests, start, max_running)

    def tokenize(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        model: str | None = None,
        add_special_tokens: bool | None = None,
        timeout: Timeout = Default.TIMEOUT,
        **template: Unpack[TemplateOptions],
    ) -> Tokens:
        """The tokens of a text or a chat, as `generate` and `chat` would use them.

        Args:
            text: Text.
            messages: A chat, in place of text.
            model: A name from `models`; needed only where there are several.
            add_special_tokens: Whether a text gets its special tokens. Default true.
            timeout: Limit in seconds; None for none. Default: the client's.
            **template: Settings of the chat template; see `Request`.

        Example:
            >>> import tandem
            >>> with tandem.Client("127.0.0.1:50051") as client:
            ...     tokens = client.tokenize("one two")
            >>> len(tokens), tokens.tokens
            (2, (b'one', b' two'))
        """
        message = encode.tokenize_request(text, messages, model, add_special_tokens, template)
        return decode.tokens(self._call(self._stub.Tokenize, message, timeout))

    def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str | None = None,
        special_tokens: bool | None = None,
        timeout: Timeout = Default.TIMEOUT,
    ) -> str:
        """The text of some tokens.

        Args:
            token_ids: Token ids.
            model: A name from `models`; needed only where there are several.
            special_tokens: Whether special tokens appear in the text. Default false.
            timeout: Limit in seconds; None for none. Default: the client's.
        """
        message = encode.detokenize_request(token_ids, model, special_tokens)
        response: inference_pb2.DetokenizeResponse = self._call(self._stub.Detokenize, message, timeout)
        return response.text

    def models(self, *, timeout: Timeout = Default.TIMEOUT) -> tuple[Model, ...]:
        """The models that the service answers for, with their limits.

        Args:
            timeout: Limit in seconds; None for none. Default: the client's.
        """
        return decode.models(self._call(self._stub.ListModels, inference_pb2.ListModelsRequest(), timeout))

    def close(self) -> None:
        """Closes the connection; calls that still run are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, request: Request, timeout: Timeout) -> Stream:
        if request.linger is not None:
            request = resumable(request)
        message = encode.generate_request(request)
        timeout_s = chosen_limit_s(timeout, self._generate_timeout_s)

        def start(remaining_s: float | None, after_tokens: int) -> Any:
            if after_tokens:
                message.resume.after_tokens = after_tokens
            metadata = (*(self._metadata or ()), *encode.metadata(request))
            return self._stub.Generate(message, timeout=remaining_s, metadata=metadata)

        return Stream(request, start, timeout_s, self._policy)

    def _call(self, method: Callable[..., Any], message: Any, timeout: Timeout) -> Any:
        """Makes a call that changes nothing, and may therefore be repeated."""
        deadline = Deadline(chosen_limit_s(timeout, self._timeout_s))
        for attempt in range(self._policy.retries + 1):
            try:
                return method(message, timeout=deadline.remaining_s(), metadata=self._metadata)
            except grpc.RpcError as rpc_error:
                error = status.from_rpc_error(rpc_error)
            delay_s = self._policy.delay_s(error, attempt, deadline)
            if delay_s is None:
                break
            time.sleep(delay_s)
        raise error
