"""Threads of the API process: dispatching, reconciling, retention, webhooks."""
