"""Priced runs to a recommendation: constraints, Pareto front, rejections, budget check, later years."""
