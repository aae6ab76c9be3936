"""`python -m service.serve --host HOST --port PORT` runs the API."""

from service.web.server import main

if __name__ == "__main__":
    main()
