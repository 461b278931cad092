"""The servicer of tandem.v1.Inference."""

import asyncio
import functools
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tandem.v1 import inference_pb2, inference_pb2_grpc
from tandem_service.access import count_tokens, counted_request
from tandem_service.errors import RETRY_DELAY_S, ServiceError, UnavailableError, Violation, invalid
from tokenizer_service.client_identity import client_of
from tokenizer_service.detokenizer import decode
from tokenizer_service.events import Event
from tokenizer_service.many_stream import ManyStream
from tokenizer_service.model import Model
from tokenizer_service.observer import Observer
from tokenizer_service.reader import Reader
from tokenizer_service.request import Chat, Origin, Request, input_field
from tokenizer_service.request_conversion import from_input, from_request
from tokenizer_service.request_counts import check_counts
from tokenizer_service.request_record import RequestRecord
from tokenizer_service.request_registry import RequestRegistry
from tokenizer_service.response_conversion import to_many_response, to_model, to_response
from tokenizer_service.slots import Slots
from tokenizer_service.validation import chat_violations, model_violations, token_id_violations

SERVICE = "tandem.v1.Inference"
Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(inference_pb2_grpc.InferenceServicer):
    """Answers requests.

    The streaming methods are coroutines that write, not generators: when a call is cancelled they are
    interrupted where they wait, and so end the engine's work at once.
    """

    def __init__(
        self,
        model: Model,
        observer: Observer,
        max_requests: int,
        max_requests_per_stream: int,
        max_lingering: int,
    ) -> None:
        """`max_requests` bounds all calls together, `max_lingering` the requests with linger."""
        self._model = model
        self._observer = observer
        self._registry = RequestRegistry(model, max_lingering)
        self._slots = Slots(max_requests)
        self._max_requests_per_stream = max_requests_per_stream
        self._is_draining = asyncio.Event()

    def drain(self) -> None:
        """Lets streams take no more requests, and end with those that run."""
        self._is_draining.set()

    def close(self) -> None:
        """Ends what lingers, when all calls have ended."""
        self._registry.close()

    async def Generate(  # type: ignore[override]  # noqa: N802
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> None:
        """See inference.proto."""
        request_id = request.request_id or secrets.token_hex(16)
        origin = Origin(client_of(context), request_id, _traceparent(context))
        deadline_s = _deadline_s(context)
        with self._observer.request("Generate", origin, deadline_s) as record:

            async def write(event: Event) -> None:
                # Before: a client may see it, and cancel the call, while the write is still awaited.
                record.add(event)
                await context.write(to_response(origin.request_id, event))

            reader = Reader(self._registry, self._request(request, origin), deadline_s)
            reader.trace(record.traceparent)
            with self._slots.taken():
                await reader.run(write, asyncio.Lock())

    async def GenerateMany(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[inference_pb2.GenerateManyRequest], context: Context
    ) -> None:
        """See inference.proto."""

        async def write(request_id: str, event: Event | ServiceError) -> None:
            await context.write(to_many_response(request_id, event))

        deadline_s, client = _deadline_s(context), client_of(context)
        traceparent = _traceparent(context)

        def record(request_id: str) -> RequestRecord:
            return self._observer.request("GenerateMany", Origin(client, request_id, traceparent), deadline_s)

        capacity = self._max_requests_per_stream
        stream = ManyStream(self._registry, self._slots, capacity, deadline_s, write, record)
        reading = asyncio.create_task(self._read_commands(requests, stream, client))
        draining = asyncio.create_task(self._is_draining.wait())
        try:
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            await stream.drain()
            if not reading.done():
                raise UnavailableError("this worker is shutting down", retry_delay_s=RETRY_DELAY_S)
        finally:
            draining.cancel()
            await stream.close(reading)

    async def Tokenize(  # noqa: N802
        self, request: inference_pb2.TokenizeRequest, context: Context
    ) -> inference_pb2.TokenizeResponse:
        """See inference.proto."""
        model = self._model
        check_counts(request, model)
        value = from_input(request)
        violations = model_violations(request.model, model.name)
        if value is None:
            violations.append(Violation("prompt", "one of prompt, chat must be set"))
        elif isinstance(value, Chat):
            violations += chat_violations(value, model.name, has_vision=model.has_vision)
        if violations or value is None:
            raise invalid(*violations)
        adds = request.add_special_tokens if request.HasField("add_special_tokens") else True
        with counted_request():
            prompt = await model.encode(value, add_special_tokens=adds)
        count_tokens(len(prompt.token_ids))
        if model.vision is not None:
            prompt = model.vision.expand(prompt, input_field(value))
        return inference_pb2.TokenizeResponse(
            token_ids=prompt.token_ids,
            tokens=[model.tokenizer.table.piece(token) for token in prompt.token_ids],
            text=prompt.text,
            context_length=model.info.context_length,
        )

    async def Detokenize(  # noqa: N802
        self, request: inference_pb2.DetokenizeRequest, context: Context
    ) -> inference_pb2.DetokenizeResponse:
        """See inference.proto."""
        model = self._model
        violations = [
            *model_violations(request.model, model.name),
            *token_id_violations("token_ids", request.token_ids, model.info.vocab_size),
        ]
        if violations:
            raise invalid(*violations)
        with counted_request():
            # In a thread: there is no bound on the ids but that of the message.
            text = await asyncio.to_thread(
                decode, model.tokenizer.table, request.token_ids, special_tokens=request.special_tokens
            )
        count_tokens(len(request.token_ids))
        return inference_pb2.DetokenizeResponse(text=text)

    async def ListModels(  # noqa: N802
        self, request: inference_pb2.ListModelsRequest, context: Context
    ) -> inference_pb2.ListModelsResponse:
        """See inference.proto."""
        model = self._model
        entry = to_model(
            model.name,
            model.info,
            model.limits,
            model.defaults,
            has_vision=model.has_vision,
            has_chat_template=model.template.exists,
        )
        return inference_pb2.ListModelsResponse(models=[entry])

    async def _read_commands(
        self, requests: AsyncIterator[inference_pb2.GenerateManyRequest], stream: ManyStream, client: str
    ) -> None:
        async for message in requests:
            if message.WhichOneof("command") == "cancel":
                stream.cancel(message.cancel.request_id)
            else:
                origin = Origin(client, message.generate.request_id)
                to_request = functools.partial(self._request, message.generate, origin)
                await stream.start(origin.request_id, to_request)

    def _request(self, message: inference_pb2.GenerateRequest, origin: Origin) -> Request:
        check_counts(message, self._model)
        return from_request(message, origin)


def _traceparent(context: Context) -> str:
    """The W3C trace context that the client sent, or an empty string."""
    value = dict(context.invocation_metadata() or ()).get("traceparent", "")
    return value if isinstance(value, str) else ""


def _deadline_s(context: Context) -> float | None:
    """When the call ends, on the loop's clock; None if the client set no deadline."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
