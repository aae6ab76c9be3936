"""How texts, log lines, addresses and secrets are written for the place where they are read."""
