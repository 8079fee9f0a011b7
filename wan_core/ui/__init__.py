"""The page: widgets to ``Request`` and events to widgets."""
