"""From a request to its sequences in the engine."""

import asyncio
from collections.abc import Callable

from tandem_service.errors import not_found
from tokenizer_service.answer import Answer, Prompt
from tokenizer_service.detokenizer import Detokenizer, decode, detokenizer_for
from tokenizer_service.engine_info import ImageSpan, SequenceSpec
from tokenizer_service.generation import Generation
from tokenizer_service.model import Model
from tokenizer_service.request import Chat, Request, Sampling
from tokenizer_service.sampling_defaults import resolve
from tokenizer_service.seeds import answer_seed, request_seed
from tokenizer_service.stop import StopAutomaton, StopMatcher
from tokenizer_service.validation import check_lengths, check_request


async def start(
    request: Request, model: Model, deadline_s: float | None, on_mail: Callable[[], None]
) -> Generation:
    """Checks, encodes and submits a request.

    Args:
        request: As it was sent.
        model: What answers it.
        deadline_s: When the call ends that starts it, on the loop's clock; None if that does not matter.
        on_mail: Called when the generation may have events.

    Raises:
        InvalidRequestError: Fields are wrong.
        NotFoundError: An image is named by a hash that is not known; or the client has tokens of an
            answer that is not here and cannot be drawn again.
        UnsupportedError: A set field is not served.
        UnavailableError: There is no engine.
    """
    first_token_deadline_s = _first_token_deadline(request)
    info = model.info
    check_request(request, model.name, model.limits, info, has_vision=model.has_vision)
    assert request.input is not None
    sampling = resolve(request.sampling, model.defaults)
    _refuse_unrepeatable(request, sampling)
    prompt = await model.encode(request.input)
    starts: tuple[int, ...] = ()
    if model.vision is not None:
        prompt, starts = model.vision.place(prompt, request)
    max_tokens = check_lengths(request.input, len(prompt.token_ids), request.stop, info.context_length)
    if request.output.echo and not prompt.text:
        prompt = Prompt(
            decode(model.tokenizer.table, prompt.token_ids, special_tokens=True), prompt.token_ids
        )
    images = await model.vision.spans(request, starts) if model.vision is not None else ()
    automaton = StopAutomaton(request.stop.strings) if request.stop.strings else None
    seed = request_seed(request.sampling.seed)
    await model.session.settle(first_token_deadline_s)
    answers = []
    for index in range(request.n):
        spec = _spec(
            request, sampling, answer_seed(seed, index), prompt, images, max_tokens, first_token_deadline_s
        )
        answer = Answer(
            index,
            prompt,
            request.output,
            request.stop,
            model.tokenizer.table,
            _detokenizer(request, model, prompt),
            _matcher(request, automaton),
            model.session.submit(spec, deadline_s, on_mail),
            # Somebody may come back for an answer that has a name.
            is_kept=request.request_id is not None,
        )
        answers.append(answer)
    return Generation(answers)


def _refuse_unrepeatable(request: Request, sampling: Sampling) -> None:
    """Without a seed the rest of a new draw would not belong to the tokens that the client has."""
    if request.resume.after_tokens and request.sampling.seed is None and sampling.temperature > 0:
        description = (
            f"{request.resume.after_tokens}: request {request.request_id!r} is not running here, and "
            "without a seed its answer cannot be drawn again"
        )
        raise not_found("resume.after_tokens", description)


def _first_token_deadline(request: Request) -> float | None:
    """On the loop's clock, for a request that comes now."""
    timeout_s = request.first_token_timeout_s
    return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s


def _spec(
    request: Request,
    sampling: Sampling,
    seed: int,
    prompt: Prompt,
    images: tuple[ImageSpan, ...],
    max_tokens: int,
    first_token_deadline_s: float | None,
) -> SequenceSpec:
    return SequenceSpec(
        token_ids=prompt.token_ids,
        sampling=sampling,
        seed=seed,
        max_tokens=max_tokens,
        min_tokens=request.stop.min_tokens,
        stop_token_ids=request.stop.token_ids,
        ignore_eos=request.stop.ignore_eos,
        logprobs=request.output.logprobs,
        prompt_logprobs=request.output.prompt_logprobs,
        priority=request.priority,
        images=images,
        first_token_deadline_s=first_token_deadline_s,
        client=request.origin.client,
        request_id=request.origin.request_id,
        traceparent=request.origin.traceparent,
        # Other calls may attach to what has a name; it ends with the last of them.
        may_overrun=request.request_id is not None,
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
