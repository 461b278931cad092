"""A `tandem.v1.Inference` service that does what its tests ask for, and remembers what it was asked."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from tandem.v1 import common_pb2, inference_pb2, inference_pb2_grpc
from tandem_service import errors, status

SERVING = b"\x08\x01"


class ScriptedInference(inference_pb2_grpc.InferenceServicer):
    """Answers a prompt, or the last message of a chat, with its own words and a full stop.

    `hang` as the first word answers that word and then nothing, until the call ends; `break` answers it
    and fails; `cut` ends the stream there. One word is one token.

    Attributes:
        failures: Errors with which the next calls fail before they answer.
        failures_after_start: Errors with which the next calls fail once they have said Started.
        requests: Every request that came.
        time_left_s: What the deadline of the latest call left it, or None if it had none.
        num_held: GenerateMany answers whenever it has this many requests, the latest first.
        cancelled: Set when a call of Generate or GenerateMany has ended before its answers had.
    """

    def __init__(self) -> None:
        self.failures: list[errors.ServiceError] = []
        self.failures_after_start: list[errors.ServiceError] = []
        self.requests: list[Any] = []
        self.time_left_s: float | None = None
        self.num_held = 1
        self.cancelled = threading.Event()

    def Generate(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """Streams the answers, one after the other."""
        self._begin(request, context)
        with self._watched(context) as ended:
            for event in _events(request):
                yield inference_pb2.GenerateResponse(request_id=request.request_id, **event)
                if "started" in event and self.failures_after_start:
                    _abort(context, self.failures_after_start.pop(0))
                if not _goes_on(event, ended, context):
                    return

    def GenerateMany(self, commands: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """Answers `num_held` requests at a time."""
        self._begin(None, context)
        held: list[Any] = []
        with self._watched(context) as ended:
            for command in commands:
                self.requests.append(command.generate)
                held.append(command.generate)
                if len(held) >= self.num_held:
                    yield from _answer_all(held, ended, context)
            yield from _answer_all(held, ended, context)

    def Tokenize(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A word is a token, with its leading space; ids are lengths."""
        self._begin(request, context)
        tokens = [word.encode() for word in _words(request)]
        return inference_pb2.TokenizeResponse(
            token_ids=[len(token) for token in tokens],
            tokens=tokens,
            text=b"".join(tokens).decode(),
            context_length=100,
        )

    def Detokenize(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Writes the ids down."""
        self._begin(request, context)
        return inference_pb2.DetokenizeResponse(text=" ".join(map(str, request.token_ids)))

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        """One model."""
        self._begin(request, context)
        model = inference_pb2.Model(
            name="scripted",
            architecture="LlamaForCausalLM",
            context_length=100,
            vocab_size=1000,
            has_chat_template=True,
            dtype="float32",
            limits=inference_pb2.Limits(max_n=64, max_request_bytes=2**40),
            default_sampling=common_pb2.Sampling(temperature=0.5, logit_bias={3: 1.0}),
        )
        return inference_pb2.ListModelsResponse(models=[model])

    def _begin(self, request: Any, context: Any) -> None:
        # Without a deadline gRPC counts to the end of its clock.
        time_left_s = context.time_remaining()
        self.time_left_s = time_left_s if time_left_s < 1e6 else None
        if request is not None:
            self.requests.append(request)
        if self.failures:
            _abort(context, self.failures.pop(0))
        if isinstance(request, inference_pb2.GenerateRequest):
            error = _validate(request)
            if error is not None:
                _abort(context, error)

    @contextlib.contextmanager
    def _watched(self, context: Any) -> Iterator[threading.Event]:
        """Yields an event that is set when the call ends."""
        ended = threading.Event()
        has_answered = False

        def on_end() -> None:
            ended.set()
            if not has_answered:
                self.cancelled.set()

        context.add_callback(on_end)
        yield ended
        has_answered = True


def _answer_all(held: list[Any], ended: threading.Event, context: Any) -> Iterator[Any]:
    while held:
        request = held.pop()
        error = _validate(request)
        if error is not None:
            failed = status.to_status(error)
            yield inference_pb2.GenerateManyResponse(request_id=request.request_id, failed=failed)
            continue
        for event in _events(request):
            yield inference_pb2.GenerateManyResponse(request_id=request.request_id, **event)
            if not _goes_on(event, ended, context):
                break


def _goes_on(event: dict[str, Any], ended: threading.Event, context: Any) -> bool:
    """Does what the word that was just sent asks for."""
    word = event["delta"].text if "delta" in event else ""
    if word == "hang":
        ended.wait(60)
    elif word == "break":
        _abort(context, errors.UnavailableError("the engine went away"))
    return word not in ("hang", "cut")


def _validate(request: Any) -> errors.ServiceError | None:
    if request.stop.HasField("max_tokens") and request.stop.max_tokens < 1:
        violation = errors.Violation("stop.max_tokens", f"{request.stop.max_tokens} is less than 1")
        return errors.InvalidRequestError(
            f"{violation.field}: {violation.description}", violations=(violation,)
        )
    return None


def _abort(context: Any, error: errors.ServiceError) -> None:
    details = status.to_status(error).SerializeToString()
    context.set_trailing_metadata(((status.DETAILS_TRAILER, details),))
    context.abort(status.STATUS_CODES[type(error)], error.message)


def _words(request: Any) -> list[str]:
    """The words of the input, each but the first with its leading space."""
    if request.HasField("chat"):
        text = "".join(part.text for part in request.chat.messages[-1].content)
    else:
        text = request.prompt
    return [word if index == 0 else " " + word for index, word in enumerate(text.split())]


def _events(request: Any) -> Iterator[dict[str, Any]]:
    """Arguments of the responses."""
    words = [*_words(request), " ."]
    limit = request.stop.max_tokens or len(words) + 1
    words, is_whole = words[:limit], len(words) < limit
    for index in range(request.n or 1):
        yield {"started": inference_pb2.Started(index=index, prompt_tokens=7, cached_tokens=2, prompt="p")}
        for word in words:
            yield {"delta": inference_pb2.Delta(index=index, text=word, token_ids=[len(word)], num_tokens=1)}
        yield {"finished": _finished(index, len(words), is_whole)}


def _finished(index: int, num_tokens: int, is_whole: bool) -> inference_pb2.Finished:
    reason = common_pb2.FINISH_REASON_EOS if is_whole else common_pb2.FINISH_REASON_LENGTH
    return inference_pb2.Finished(
        index=index,
        reason=reason,
        stop_token_id=9 if is_whole else None,
        usage=inference_pb2.Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=num_tokens),
        timings=inference_pb2.Timings(queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0),
    )


Served = tuple[ScriptedInference, str]
"""A servicer, and the address at which it is served."""


class Health(grpc.GenericRpcHandler):
    """`grpc.health.v1.Health/Check` that is always SERVING."""

    def service(self, handler_call_details: Any) -> Any:
        """See grpc.GenericRpcHandler."""
        if handler_call_details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: SERVING)
        return None


@contextlib.contextmanager
def running(servicer: ScriptedInference | None, address: str = "127.0.0.1:0") -> Iterator[str]:
    """A server with health, and the servicer if there is one; yields its address."""
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Health(),))
    if servicer is not None:
        inference_pb2_grpc.add_InferenceServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
