"""How far a long work is: a bar on a terminal, a line a minute in a pipe."""

import sys
import time
from collections.abc import Callable

__all__ = ["Progress"]

_EVERY = 60.0  # seconds


class Progress:
    """Shows pictures a second, failures so far and the time left, on stderr.

    Arguments:
        total: Pictures in all.
        say: Prints a line.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        total: int,
        say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done, self.failures = total, 0, 0
        self.say, self.clock = say, clock
        self.start = self.said = clock()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=" pictures", leave=False, file=sys.stderr)

    def update(self, count: int, failures: int) -> None:
        """Count pictures that are done, and those of them that failed."""
        self.done += count
        self.failures += failures
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.failures:,} failures", refresh=False)
            self.bar.update(count)
        elif self.clock() - self.said >= _EVERY:
            self.said = self.clock()
            self.say(self.line())

    def line(self) -> str:
        """Return how far it is, in one line."""
        rate = self.done / max(self.clock() - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        hours, minutes = divmod(round(left / 60), 60)
        return (
            f"{self.done:,} of {self.total:,} pictures, {rate:,.0f} a second, "
            f"{self.failures:,} failures, {hours}:{minutes:02d} h left"
        )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
