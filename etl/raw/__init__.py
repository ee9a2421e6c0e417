"""The only importer of dlt's pipeline: load packages from extraction to their commit in raw."""

from etl.raw.counts import root_tables
from etl.raw.failures import classify, classify_delivery
from etl.raw.pipeline import NOTHING, Committed, Raw

__all__ = ["NOTHING", "Committed", "Raw", "classify", "classify_delivery", "root_tables"]
