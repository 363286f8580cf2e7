"""`python -m overlay.cli`: the command line where no `overlay` is on the path."""

from overlay.cli import main

if __name__ == "__main__":
    main()
