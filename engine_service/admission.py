"""Who is let in. Decided in the server process, which answers at once and asks nobody."""

from engine_service.config import EngineConfig
from engine_service.known_prompts import KnownPrompts
from engine_service.ledger import Entry, Ledger
from engine_service.plan import Rates
from engine_service.sequence import SequenceKey, SequenceSpec
from tandem_service.errors import RETRY_DELAY_S, DeadlineError, OverloadedError

_MIN_RETRY_S, _MAX_RETRY_S = 0.1, 60.0
# A sequence is refused for its deadline if it would miss it even at twice the measured rate.
_DOUBT = 2.0


class Admission:
    """The bounds of the queue, and whether a first token can be there in time.

    A queue begins where `max_num_seqs` sequences are with the core: before, each will get a place.

    Attributes:
        rates: How fast the core was lately, as it last said.
    """

    def __init__(self, config: EngineConfig, num_cache_tokens: int) -> None:
        """The core has no sequence; its KV cache holds `num_cache_tokens`."""
        self.rates = Rates()
        self._config = config
        self._ledger = Ledger()
        self._known = KnownPrompts(num_cache_tokens if config.prefix_caching else 0)

    def enter(self, key: SequenceKey, spec: SequenceSpec) -> None:
        """Lets a sequence in, under an unused key.

        Raises:
            OverloadedError: The queue, or the client's share of it, has no room.
            DeadlineError: Its first token cannot be there in time.
        """
        self._check_queue(len(spec.token_ids))
        self._check_share(spec.client, len(spec.token_ids))
        # What a picture costs is not measured: such sequences count as no work, and wait for others only.
        num_work_tokens = 0 if spec.images else self._known.num_unknown(spec.token_ids)
        self._check_deadline(spec, num_work_tokens)
        if not spec.images:
            self._known.add(spec.token_ids)
        # Before anything was measured also those come in that will give up in the queue: they are no
        # work that surely has to be done before a later one's.
        if self.rates.prefill_tokens_per_s is None:
            num_work_tokens = 0
        self._ledger.add(key, Entry(spec.client, spec.priority, len(spec.token_ids), num_work_tokens))

    def begin(self, key: SequenceKey) -> None:
        """The core has begun a sequence."""
        self._ledger.begin(key)

    def leave(self, key: SequenceKey) -> None:
        """The core has a sequence no more; those that left before are ignored."""
        self._ledger.end(key)

    @property
    def retry_delay_s(self) -> float:
        """Seconds in which half of those that wait will have begun, at the rate of late."""
        rate = self.rates.begun_per_s
        if rate is None:
            return RETRY_DELAY_S
        return min(max(self._ledger.waiting.num_sequences / 2 / rate, _MIN_RETRY_S), _MAX_RETRY_S)

    def check(self) -> None:
        """Asserts that the counts agree with the sequences."""
        self._ledger.check()

    def _check_queue(self, num_tokens: int) -> None:
        config, waiting = self._config, self._ledger.waiting
        num_queued = self._ledger.num_sequences - config.max_num_seqs
        if num_queued >= config.max_num_waiting:
            raise self._overloaded(
                f"{num_queued} sequences wait, at most max_num_waiting={config.max_num_waiting}"
            )
        # A prompt alone in the queue may be longer than the bound; the context length bounds it.
        if waiting.num_tokens and waiting.num_tokens + num_tokens > config.max_waiting_tokens:
            raise self._overloaded(
                f"{waiting.num_tokens} prompt tokens wait; {num_tokens} more would be over "
                f"max_waiting_tokens={config.max_waiting_tokens}"
            )

    def _check_share(self, client: str, num_tokens: int) -> None:
        config, mine = self._config, self._ledger.waiting_of(client)
        num_begun = self._ledger.num_sequences - self._ledger.waiting.num_sequences
        num_queued = mine.num_sequences - max(0, config.max_num_seqs - num_begun)
        share = f"max_client_share={config.max_client_share:g}"
        most = max(1, int(config.max_client_share * config.max_num_waiting))
        if num_queued >= most:
            raise self._overloaded(
                f"{num_queued} sequences of client {client!r} wait, at most {most}: "
                f"{share} of max_num_waiting={config.max_num_waiting}"
            )
        most = int(config.max_client_share * config.max_waiting_tokens)
        if mine.num_tokens and mine.num_tokens + num_tokens > most:
            raise self._overloaded(
                f"{mine.num_tokens} prompt tokens of client {client!r} wait; {num_tokens} more would be over "
                f"{most}: {share} of max_waiting_tokens={config.max_waiting_tokens}"
            )

    def _check_deadline(self, spec: SequenceSpec, num_work_tokens: int) -> None:
        rate, limit_s = self.rates.prefill_tokens_per_s, spec.first_token_limit_s
        if rate is None or limit_s is None:
            return
        expected_s = (self._ledger.work_ahead(spec.priority) + num_work_tokens) / rate
        if expected_s > _DOUBT * limit_s:
            name = "deadline" if limit_s == spec.timeout_s else "first_token_timeout"
            raise DeadlineError(
                f"the first token is expected in {expected_s:.3g} s, past the {name} in {limit_s:.3g} s"
            )

    def _overloaded(self, reason: str) -> OverloadedError:
        return OverloadedError(f"the engine's queue is full: {reason}", retry_delay_s=self.retry_delay_s)
