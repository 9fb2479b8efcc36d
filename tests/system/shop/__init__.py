"""An app whose models, views and tasks send every signal that Django has."""
