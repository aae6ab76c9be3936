"""Results as people read them: comparisons, charts, reports, exports. No HTTP, no SQL."""
