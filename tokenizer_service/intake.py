"""From a request to its sequences in the engine."""

import asyncio
from collections.abc import Callable

from tokenizer_service.answer import Answer, Prompt
from tokenizer_service.detokenizer import Detokenizer, decode, detokenizer_for
from tokenizer_service.engine_info import ImageSpan, SequenceSpec
from tokenizer_service.generation import Generation
from tokenizer_service.model import Model
from tokenizer_service.request import Chat, Request
from tokenizer_service.sampling_defaults import resolve
from tokenizer_service.seeds import answer_seed
from tokenizer_service.stop import StopAutomaton, StopMatcher
from tokenizer_service.validation import check_lengths, check_request


async def start(
    request: Request, model: Model, deadline_s: float | None, on_mail: Callable[[], None]
) -> Generation:
    """Checks, encodes and submits a request.

    Args:
        request: As it was sent.
        model: What answers it.
        deadline_s: When nobody wants the answer any more, on the loop's clock.
        on_mail: Called when the generation may have events.

    Raises:
        InvalidRequestError: Fields are wrong.
        NotFoundError: An image is named by a hash that is not known.
        UnsupportedError: A set field is not served.
        UnavailableError: There is no engine.
    """
    received_s = asyncio.get_running_loop().time()
    info = model.info
    check_request(request, model.name, model.limits, info, has_vision=model.has_vision)
    assert request.input is not None
    prompt = await model.encode(request.input)
    starts: tuple[int, ...] = ()
    if model.vision is not None:
        prompt, starts = model.vision.place(prompt, request)
    if request.output.echo and not prompt.text:
        prompt = Prompt(
            decode(model.tokenizer.table, prompt.token_ids, special_tokens=True), prompt.token_ids
        )
    max_tokens = check_lengths(request.input, len(prompt.token_ids), request.stop, info.context_length)
    images = await model.vision.spans(request, starts) if model.vision is not None else ()
    automaton = StopAutomaton(request.stop.strings) if request.stop.strings else None
    answers = []
    for index in range(request.n):
        spec = _spec(request, model, prompt, images, max_tokens, index, received_s)
        answer = Answer(
            index,
            prompt,
            request.output,
            request.stop,
            model.tokenizer.table,
            _detokenizer(request, model, prompt),
            _matcher(request, automaton),
            model.session.submit(spec, deadline_s, on_mail),
        )
        answers.append(answer)
    return Generation(answers)


def _spec(
    request: Request,
    model: Model,
    prompt: Prompt,
    images: tuple[ImageSpan, ...],
    max_tokens: int,
    index: int,
    received_s: float,
) -> SequenceSpec:
    first_token_timeout_s = request.first_token_timeout_s
    return SequenceSpec(
        token_ids=prompt.token_ids,
        sampling=resolve(request.sampling, model.defaults),
        seed=answer_seed(request.sampling.seed, index),
        max_tokens=max_tokens,
        min_tokens=request.stop.min_tokens,
        stop_token_ids=request.stop.token_ids,
        ignore_eos=request.stop.ignore_eos,
        logprobs=request.output.logprobs,
        prompt_logprobs=request.output.prompt_logprobs,
        priority=request.priority,
        images=images,
        first_token_deadline_s=None if first_token_timeout_s is None else received_s + first_token_timeout_s,
        client=request.origin.client,
        request_id=request.origin.request_id,
        traceparent=request.origin.traceparent,
    )


def _detokenizer(request: Request, model: Model, prompt: Prompt) -> Detokenizer:
    """The answer to a chat is a text of its own; anything else goes on where the prompt ends."""
    is_fresh = isinstance(request.input, Chat) and not request.input.is_continued
    return detokenizer_for(
        model.tokenizer.table,
        special_tokens=request.output.special_tokens,
        prompt=None if is_fresh else prompt.token_ids,
    )


def _matcher(request: Request, automaton: StopAutomaton | None) -> StopMatcher | None:
    if automaton is None:
        return None
    stop = request.stop
    return StopMatcher(automaton, min_tokens=stop.min_tokens, include_stop=stop.include_stop)
