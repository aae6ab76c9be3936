"""fflab as a service: HTTP, state, charts, client and command line; never torch."""
