"""The research behind trainfare: measured tables, the workloads that they ran, fits, scores and the pages that
show them.
"""
