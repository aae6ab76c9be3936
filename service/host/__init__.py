"""The machine that a process runs on: names of hosts, file systems, processes."""
