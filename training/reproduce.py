"""Make entries again, or check them: `python -m training.reproduce NAME...`."""

from training.release.reproduce import main

if __name__ == "__main__":
    main()
