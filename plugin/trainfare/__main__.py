"""`python -m trainfare` is `trainfare`."""

from trainfare.cli import main

if __name__ == "__main__":
    main()
