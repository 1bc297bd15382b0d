"""bluesky documents of every scan, for anyone: the service that sends them, and the late viewer's side."""

from streamptycho_services.documents.client import LateJoiner
from streamptycho_services.documents.service import documents, serve

__all__ = ["LateJoiner", "documents", "serve"]
