"""Lets `python -m cli` stand for `semblance`."""

from cli.main import main

if __name__ == "__main__":
    main()
