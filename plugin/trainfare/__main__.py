"""Run the command line as `python -m trainfare`."""

from trainfare.cli import main

if __name__ == "__main__":
    main()
