"""`python -m service.serve --host HOST --port PORT` runs the API."""

import gc

gc.disable()  # what is loaded stays: to look through it again and again takes a fifth of the start

from service.web.server import main

if __name__ == "__main__":
    main()
