"""Everything the product says as text: for terminals, pull requests and browsers."""

from trainfare.report.report import Report, report_ranking

__all__ = ["Report", "report_ranking"]
