"""What is shown of results: comparisons, charts, reports, exports. No HTTP, no SQL."""
