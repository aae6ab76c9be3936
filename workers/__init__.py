"""Celery workers and the runner that computes; the only part with torch and the queue."""
