"""Load, throughput and latencies of both services as lines of text."""

from collections.abc import Iterator

from tandem.cli.metrics_page import Change

_LATENCIES = (
    ("TTFT", "tokenizer", "time_to_first_token"),
    ("ITL", "tokenizer", "inter_token"),
    ("queue", "engine", "queue"),
    ("prefill", "engine", "prefill"),
    ("step", "engine", "step"),
)


def table(tokenizer: Change | None, engine: Change | None) -> Iterator[str]:
    """The lines.

    Args:
        tokenizer: What happened in the tokenizer service; None if it does not answer.
        engine: The same of the engine service.
    """
    yield f"tokenizer service  {_tokenizer_state(tokenizer)}"
    yield f"engine service     {_engine_state(engine)}"
    yield ""
    if tokenizer:
        yield _requests(tokenizer)
        yield _tokens(tokenizer, engine)
    if engine:
        yield _sequences(engine)
        yield _blocks(engine)
    yield ""
    yield f"{'':10}{'p50':>12}{'p99':>12}"
    for title, service, name in _LATENCIES:
        change = tokenizer if service == "tokenizer" else engine
        yield title.ljust(10) + "".join(
            _milliseconds(
                change.quantile(f"tandem_{service}_{name}_seconds", share) if change else None
            ).rjust(12)
            for share in (0.5, 0.99)
        )
    yield ""
    yield f"refused   {_refused(tokenizer, engine)}"


def _tokenizer_state(change: Change | None) -> str:
    if change is None:
        return "does not answer"
    count = change.newer.total("tandem_tokenizer_engine_connections")
    workers = change.newer.total("tandem_tokenizer_workers") or 1
    return f"{'up' if count else 'without its engine'}, {count:.0f} of {workers:.0f} workers connected"


def _engine_state(change: Change | None) -> str:
    if change is None:
        return "does not answer"
    state = "up" if change.newer.total("tandem_engine_up") else "without its core"
    sessions = change.newer.total("tandem_engine_sessions")
    deaths = change.newer.total("tandem_engine_core_deaths_total")
    return f"{state}, {sessions:.0f} workers connected, {deaths:.0f} core deaths"


def _requests(change: Change) -> str:
    running = change.newer.total("tandem_tokenizer_running_requests")
    return f"requests  {running:.0f} running, {_rate(change.rate('tandem_tokenizer_requests_total'))} ended"


def _tokens(tokenizer: Change, engine: Change | None) -> str:
    tokens_in = _rate(tokenizer.rate("tandem_tokenizer_prompt_tokens_total"))
    tokens_out = _rate(tokenizer.rate("tandem_tokenizer_completion_tokens_total"))
    line = f"tokens    {tokens_in} in, {tokens_out} out"
    if engine and (num_prompt := engine.increase("tandem_engine_prompt_tokens_total")):
        share = engine.increase("tandem_engine_cached_tokens_total") / num_prompt
        line += f", {share:.0%} of prompts from the prefix cache"
    return line


def _sequences(change: Change) -> str:
    running, waiting = (
        change.newer.total(f"tandem_engine_{each}_sequences") for each in ("running", "waiting")
    )
    preempted = _rate(change.rate("tandem_engine_preemptions_total"))
    return f"sequences {running:.0f} running, {waiting:.0f} waiting, {preempted} preempted"


def _blocks(change: Change) -> str:
    total = change.newer.total("tandem_engine_kv_blocks")
    used = total - change.newer.total("tandem_engine_kv_free_blocks")
    return f"blocks    {used:.0f} of {total:.0f} used ({used / total if total else 0:.0%})"


def _refused(tokenizer: Change | None, engine: Change | None) -> str:
    """By status; the client's own cancellations are no refusals."""
    rates = tokenizer.rates("tandem_tokenizer_requests_total", "outcome") if tokenizer else {}
    failed = {status: rate for status, rate in rates.items() if status not in ("OK", "CANCELLED")}
    rejected = engine.rates("tandem_engine_rejects_total", "reason") if engine else {}
    words = [f"{status} {_rate(rate)}" for status, rate in sorted(failed.items())]
    words += [f"{status} {_rate(rate)} by the engine" for status, rate in sorted(rejected.items())]
    return ", ".join(words) or "none"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-/s"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.2f} ms"
