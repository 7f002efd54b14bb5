"""The version of the `trainfare` distribution; the build reads it from here."""

__version__ = "0.2.0"
