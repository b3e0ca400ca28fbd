"""What makes `lvmzoo/weights` and `model_cards`. Runs from a checkout; not in the wheel."""

import time

# A time limit is that of the whole process, whose imports take seconds.
STARTED = time.monotonic()
