"""`python -m lvmzoo` is the command `lvmzoo`."""

from lvmzoo.cli import main

if __name__ == "__main__":
    main(prog_name="lvmzoo")
