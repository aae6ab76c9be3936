"""The pages for people: HTML rendered here, a little script that keeps it live.

Everything they do goes through the API under /v1.
"""
