"""The price book and the checks that a price row passes before it enters."""
