"""Reads a spec from a file or a form, and explains what is wrong with one."""
