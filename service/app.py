"""The application factory by its former name: `uvicorn --factory service.app:create_app` goes on
working.
"""

from service.web.app import create_app

__all__ = ["create_app"]
