"""Stop strings, wherever the borders of tokens fall."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StopMatch:
    """Where a stop string ended the text.

    Attributes:
        stop: The stop string.
        texts: The kept texts of the tokens that waited, the last one cut where the text ends. All
            tokens that contribute a kept character are there, and no later one.
    """

    stop: str
    texts: list[str]


class StopAutomaton:
    """The automaton of Aho and Corasick (1975) over some stop strings; immutable.

    A state is the longest end of the text that is the beginning of a stop string. State 0 is "none".

    Attributes:
        matches: For each state the longest stop string that the text ends with, or "".
        num_held: For each state how many characters at the text's end may still become a stop string.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """`strings` are not empty."""
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self.matches = [""]
        self.num_held = [0]
        for string in strings:
            self._add(string)
        self._link()

    def step(self, state: int, char: str) -> int:
        """The state after one more character."""
        while state and char not in self._next[state]:
            state = self._fail[state]
        return self._next[state].get(char, 0)

    def _add(self, string: str) -> None:
        state = 0
        for depth, char in enumerate(string, 1):
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self.matches.append("")
                self.num_held.append(depth)
            state = self._next[state][char]
        self.matches[state] = string

    def _link(self) -> None:
        """Sets failure links by increasing depth: the longest proper end that is a state too."""
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], char)
                queue.append(child)
            shorter = self._fail[state]
            self.matches[state] = self.matches[state] or self.matches[shorter]
            if not self._next[state]:
                self.num_held[state] = self.num_held[shorter]


class StopMatcher:
    """Finds the first place where the text of one answer ends with a stop string.

    A token waits while its text, or that of an earlier token, may still become a part of a stop string.
    """

    def __init__(self, automaton: StopAutomaton, *, min_tokens: int, include_stop: bool) -> None:
        """No stop string counts that ends in the first `min_tokens` tokens."""
        self._automaton = automaton
        self._min_tokens = min_tokens
        self._include_stop = include_stop
        self._state = 0
        self._num_tokens = 0
        self._held: list[str] = []

    def push(self, texts: Sequence[str]) -> list[str] | StopMatch:
        """Takes the next tokens' texts; gives those that are certain now, or the match.

        After a match nothing more is pushed.
        """
        step, matches = self._automaton.step, self._automaton.matches
        state = self._state
        for text in texts:
            self._held.append(text)
            self._num_tokens += 1
            for position, char in enumerate(text, 1):
                state = step(state, char)
                if matches[state] and self._num_tokens > self._min_tokens:
                    return self._match(matches[state], len(text) - position)
        self._state = state
        return self._release(self._automaton.num_held[state])

    def finish(self) -> list[str]:
        """The texts that still waited, when the answer ends without a stop string."""
        held, self._held = self._held, []
        return held

    def _release(self, num_chars: int) -> list[str]:
        """Gives all held texts before the token with the `num_chars`-th character from the end."""
        keep = len(self._held)
        while num_chars > 0:
            keep -= 1
            num_chars -= len(self._held[keep])
        # Tokens without text wait for what follows: they may be its first bytes, and where a stop
        # string follows, the answer ends with the last token that has text.
        while keep and not self._held[keep - 1]:
            keep -= 1
        released = self._held[:keep]
        del self._held[:keep]
        return released

    def _match(self, stop: str, num_after: int) -> StopMatch:
        num_cut = num_after + (0 if self._include_stop else len(stop))
        texts = self._held
        while texts and num_cut >= len(texts[-1]):
            num_cut -= len(texts.pop())
        if num_cut:
            texts[-1] = texts[-1][:-num_cut]
        return StopMatch(stop, texts)
