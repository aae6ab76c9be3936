"""The dashboard: pages rendered on the server, and a script that updates them.

Whatever a page changes, it changes through the API under /v1.
"""
