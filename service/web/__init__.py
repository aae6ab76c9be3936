"""The HTTP side: application, server, routes, problems, pages."""
