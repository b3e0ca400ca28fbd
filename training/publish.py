"""Publish an entry, or a run of one's own: `python -m training.publish NAME --to DIR`."""

from training.release.publish import main

if __name__ == "__main__":
    main()
