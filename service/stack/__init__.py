"""The embedded stack: Redis, API and worker as one supervised process tree."""
