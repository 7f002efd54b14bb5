"""Divisors of numbers of devices and samples."""

from __future__ import annotations


def divisors(number: int) -> list[int]:
    """Return the divisors in rising order, by factoring: a profile may have a batch of up to 10^18 samples."""
    products = [1]
    for prime, power in _factors(number):
        products = [d * prime**exponent for d in products for exponent in range(power + 1)]
    return sorted(products)


def _factors(number: int) -> list[tuple[int, int]]:
    """Return prime factors found up to 10^6; what is left above counts as one factor."""
    factors: list[tuple[int, int]] = []
    prime = 2
    while prime * prime <= number and prime <= 1_000_000:
        power = 0
        while number % prime == 0:
            number, power = number // prime, power + 1
        if power:
            factors.append((prime, power))
        prime += 1 if prime == 2 else 2
    if number > 1:
        factors.append((number, 1))
    return factors
