"""The child that measures the peak memory of one side of a benchmark; prints bytes as JSON."""

import json
import sys
from importlib import import_module

from benchmarks._harness import Settings, added_memory

if __name__ == "__main__":
    module, side, values, options = json.loads(sys.argv[1])
    settings = Settings(**values)
    work = import_module(f"benchmarks.{module}").sides(settings, only=side, **options)[side]
    work()  # what is made once and kept does not count
    print(json.dumps([added_memory(work, settings.device) for _ in range(settings.pick(3, 1))]))
