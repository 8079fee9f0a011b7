"""A job from request to file; nothing here knows the page."""
