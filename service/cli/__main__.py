"""`python -m service.cli` is `fflab`."""

from service.cli import main

main()
